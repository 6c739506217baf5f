package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// patience with one request.
const patience = 10 * time.Second

// client is one HTTP connection. It is not net/http's, which repeats requests
// that a broken connection swallowed.
type client struct {
	net.Conn
	in *bufio.Reader
	to string
}

func dial(address string) (*client, error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	return &client{conn, bufio.NewReader(conn), address}, nil
}

// ask sends one request and reads its answer.
func (c *client) ask() error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "GET /load HTTP/1.1\r\nHost: %s\r\n\r\n", c.to); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || string(body) != "/load\n" {
		return fmt.Errorf("answered %s with %.40q", resp.Status, body)
	}
	return nil
}

// once is one request on a connection of its own.
func once(address string) error {
	c, err := dial(address)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.ask()
}
