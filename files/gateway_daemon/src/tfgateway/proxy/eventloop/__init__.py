"""One epoll instance a worker, and the timers of its connections."""
