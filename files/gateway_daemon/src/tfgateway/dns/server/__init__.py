"""The running DNS plane: sockets, batches, TCP, NOTIFY, metrics."""
