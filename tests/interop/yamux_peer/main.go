// A peer for the tests and the benchmark that speaks yamux by hashicorp's own library.
//
//	peer client ADDRESS SECRET BACKLOG   what an old tunnel client does, with an echo as its local service
//	peer server ADDRESS                  what an old tunnel server does, with visitors that it makes up itself
//	peer relay-server TUNNELS VISITORS   for the benchmark: leads visitors into the tunnel that came last
//	peer relay-client ADDRESS SECRET TARGET
//
// "client" and "server" take commands on standard input, one a line, and answer each with one line.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func config(backlog int) *yamux.Config {
	made := yamux.DefaultConfig()
	made.AcceptBacklog = backlog
	made.LogOutput = os.Stderr
	return made
}

func introduce(address, secret string, backlog int) *yamux.Session {
	connection, err := net.Dial("tcp", address)
	check(err)
	session, err := yamux.Client(connection, config(backlog))
	check(err)
	stream, err := session.OpenStream()
	check(err)
	handshake := append([]byte{0x11, 0x11, 0, 0}, secret...)
	binary.BigEndian.PutUint16(handshake[2:], uint16(len(secret)))
	_, err = stream.Write(handshake)
	check(err)
	check(stream.Close())
	return session
}

func handshake(session *yamux.Session) string {
	stream, err := session.AcceptStream()
	check(err)
	head := make([]byte, 4)
	_, err = io.ReadFull(stream, head)
	check(err)
	secret := make([]byte, binary.BigEndian.Uint16(head[2:]))
	_, err = io.ReadFull(stream, secret)
	check(err)
	check(stream.Close())
	return string(secret)
}

func listen(address string) net.Listener {
	listener, err := net.Listen("tcp", address)
	check(err)
	return listener
}

func answer(format string, values ...any) {
	fmt.Printf(format+"\n", values...)
}

func commands(does map[string]func(argument string) string) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		name, argument, _ := strings.Cut(lines.Text(), " ")
		answer("%s", does[name](argument))
	}
}

func told(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func client(address, secret string, backlog int) {
	session := introduce(address, secret, backlog)
	answer("introduced")
	accepting := sync.Once{}
	commands(map[string]func(string) string{
		"accept": func(string) string {
			accepting.Do(func() {
				go func() {
					for {
						stream, err := session.AcceptStream()
						if err != nil {
							return
						}
						go func() {
							io.Copy(stream, stream)
							stream.Close()
						}()
					}
				}()
			})
			return "ok"
		},
		"ping": func(string) string { _, err := session.Ping(); return told(err) },
		// A second stream is what no old client opens: it has to be reset, and nothing else.
		"open": func(string) string {
			stream, err := session.OpenStream()
			if err != nil {
				return err.Error()
			}
			_, err = stream.Read(make([]byte, 1))
			return told(err)
		},
		"go-away": func(string) string { return told(session.GoAway()) },
		"streams": func(string) string { return strconv.Itoa(session.NumStreams()) },
		"wait-closed": func(string) string {
			select {
			case <-session.CloseChan():
				return "closed"
			case <-time.After(20 * time.Second):
				return "open"
			}
		},
	})
}

// visit sends much without reading, wants all of it back, then closes. (hashicorp's streams read nothing more once they
// are closed; half-closed streams are tested where this library is the one that goes on sending.)
func visit(session *yamux.Session, size int) string {
	stream, err := session.OpenStream()
	if err != nil {
		return err.Error()
	}
	defer stream.Close()
	sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	failed := make(chan error, 1)
	go func() {
		_, err := stream.Write(sent)
		failed <- err
	}()
	received := make([]byte, len(sent))
	if count, err := io.ReadFull(stream, received); err != nil {
		return fmt.Sprintf("%s after %d octets", err, count)
	}
	if err := <-failed; err != nil {
		return err.Error()
	}
	if !bytes.Equal(received, sent) {
		return "other octets"
	}
	return "ok"
}

func server(address string) {
	listener := listen(address)
	answer("listening %s", listener.Addr())
	connection, err := listener.Accept()
	check(err)
	session, err := yamux.Server(connection, config(256))
	check(err)
	answer("handshake %s", handshake(session))
	commands(map[string]func(string) string{
		"visit": func(argument string) string {
			size, err := strconv.Atoi(argument)
			check(err)
			return visit(session, size)
		},
		"visits": func(argument string) string {
			count, err := strconv.Atoi(argument)
			check(err)
			answers := make(chan string, count)
			for i := 0; i < count; i++ {
				go func() { answers <- visit(session, 320000) }()
			}
			for i := 0; i < count; i++ {
				if found := <-answers; found != "ok" {
					return found
				}
			}
			return "ok"
		},
		"ping":    func(string) string { _, err := session.Ping(); return told(err) },
		"go-away": func(string) string { return told(session.GoAway()) },
		"streams": func(string) string { return strconv.Itoa(session.NumStreams()) },
		"close":   func(string) string { return told(session.Close()) },
	})
}

type half interface {
	io.ReadWriteCloser
}

func finish(end half) {
	if tcp, ok := end.(*net.TCPConn); ok {
		tcp.CloseWrite()
	} else {
		end.Close()
	}
}

func join(one, other half) {
	var both sync.WaitGroup
	both.Add(2)
	copyHalf := func(to, from half) {
		io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 64*1024))
		finish(to)
		both.Done()
	}
	go copyHalf(one, other)
	go copyHalf(other, one)
	both.Wait()
	one.Close()
	other.Close()
}

// relayServer leads visitors into the tunnel that came last; any number of clients may introduce themselves.
func relayServer(tunnels, visitors string) {
	listener, entrance := listen(tunnels), listen(visitors)
	answer("listening %s %s", listener.Addr(), entrance.Addr())
	var newest atomic.Value
	go func() {
		for {
			connection, err := listener.Accept()
			check(err)
			go func() {
				session, err := yamux.Server(connection, config(256))
				check(err)
				handshake(session)
				newest.Store(session)
			}()
		}
	}()
	for {
		visitor, err := entrance.Accept()
		check(err)
		stream, err := newest.Load().(*yamux.Session).OpenStream()
		check(err)
		go join(visitor.(*net.TCPConn), stream)
	}
}

func relayClient(address, secret, target string) {
	session := introduce(address, secret, 256)
	for {
		stream, err := session.AcceptStream()
		check(err)
		go func() {
			service, err := net.Dial("tcp", target)
			check(err)
			join(service.(*net.TCPConn), stream)
		}()
	}
}

func main() {
	arguments := os.Args[1:]
	switch {
	case len(arguments) == 4 && arguments[0] == "client":
		backlog, err := strconv.Atoi(arguments[3])
		check(err)
		client(arguments[1], arguments[2], backlog)
	case len(arguments) == 2 && arguments[0] == "server":
		server(arguments[1])
	case len(arguments) == 3 && arguments[0] == "relay-server":
		relayServer(arguments[1], arguments[2])
	case len(arguments) == 4 && arguments[0] == "relay-client":
		relayClient(arguments[1], arguments[2], arguments[3])
	default:
		fmt.Fprintln(os.Stderr, "peer: wrong arguments")
		os.Exit(2)
	}
}
