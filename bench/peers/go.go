// Go: a goroutine for each connection, and io.Copy, which has the kernel move the bytes (splice)
// at the price of a pipe for each connection. Usage: echo PORT
package main

import (
	"io"
	"log"
	"net"
	"os"
)

func echo(connection net.Conn) {
	defer connection.Close()
	io.Copy(connection, connection)
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Print(err)
			continue
		}
		go echo(connection)
	}
}
