// Go, a chat: a goroutine that reads and one that writes for each member, and a channel between.
// A member that takes nothing for 250 ms is closed. Usage: chat PORT
package main

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"os"
	"sync"
	"time"
)

const (
	queued   = 256 // lines that wait for a member before its authors do
	patience = 250 * time.Millisecond
)

type member struct {
	name       string
	connection net.Conn
	lines      chan string
}

var (
	lock    sync.Mutex
	members = map[*member]bool{}
	guests  int
)

// What comes together is written together.
func (m *member) write() {
	output := bufio.NewWriterSize(m.connection, 65536)
	for line := range m.lines {
		output.WriteString(line)
		if len(m.lines) == 0 {
			m.connection.SetWriteDeadline(time.Now().Add(patience))
			if output.Flush() != nil {
				m.connection.Close() // further writes fail at once
			}
		}
	}
	m.connection.Close()
}

// The lock is held.
func (m *member) tellOthers(line string) {
	for other := range members {
		if other != m {
			other.lines <- line
		}
	}
}

func (m *member) join() {
	lock.Lock()
	defer lock.Unlock()
	guests++
	m.name = fmt.Sprintf("guest%d", guests)
	members[m] = true
	m.lines <- fmt.Sprintf("* you are %s, %d here\n", m.name, len(members))
	m.tellOthers("* " + m.name + " joined\n")
}

func (m *member) leave() {
	lock.Lock()
	defer lock.Unlock()
	delete(members, m)
	close(m.lines)
	m.tellOthers("* " + m.name + " left\n")
}

func (m *member) read() {
	input := bufio.NewScanner(m.connection)
	for input.Scan() && input.Text() != "/quit" {
		line := m.name + ": " + input.Text() + "\n"
		lock.Lock()
		m.tellOthers(line)
		lock.Unlock()
	}
}

func serve(connection net.Conn) {
	m := &member{connection: connection, lines: make(chan string, queued)}
	go m.write()
	m.join()
	m.read()
	m.leave()
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(connection)
	}
}
