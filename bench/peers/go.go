// Go: a goroutine for each connection, and io.Copy, which has the kernel move the bytes (splice)
// at the price of a pipe for each connection; with TLS it copies. Usage: echo PORT [PEM]
package main

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"os"
)

func echo(connection net.Conn) {
	defer connection.Close()
	io.Copy(connection, connection)
}

// With TLS if there is a file with a certificate and its key.
func listen() (net.Listener, error) {
	address := "127.0.0.1:" + os.Args[1]
	if len(os.Args) < 3 {
		return net.Listen("tcp", address)
	}
	pair, err := tls.LoadX509KeyPair(os.Args[2], os.Args[2])
	if err != nil {
		return nil, err
	}
	return tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{pair}})
}

func main() {
	listener, err := listen()
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
