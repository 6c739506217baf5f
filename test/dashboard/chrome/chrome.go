// Package chrome drives a Chromium without a screen, by the DevTools protocol on
// two pipes: just what the dashboard's tests ask of it.
package chrome

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Browser is a running Chromium with one page.
type Browser struct {
	cmd  *exec.Cmd
	in   *os.File
	done chan struct{} // closed when it has gone

	mu      sync.Mutex
	session string
	last    int
	waiting map[int]chan reply
	events  []Event
	news    chan struct{}
}

// Event is what the page did by itself.
type Event struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

type reply struct {
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// Start a browser whose profile is in dir. It ends with ctx or by Close.
func Start(ctx context.Context, program, dir string) (*Browser, error) {
	fromUs, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, fromIt, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	b := &Browser{in: in, done: make(chan struct{}), waiting: map[int]chan reply{}, news: make(chan struct{})}
	b.cmd = exec.CommandContext(ctx, program, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
		"--no-first-run", "--disable-extensions", "--disable-background-networking", "--hide-scrollbars", "--user-data-dir="+dir, "about:blank")
	b.cmd.ExtraFiles = []*os.File{fromUs, fromIt}
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	b.cmd.Env = append(os.Environ(), "HOME="+dir)
	err = b.cmd.Start()
	fromUs.Close()
	fromIt.Close()
	if err != nil {
		in.Close()
		out.Close()
		return nil, err
	}
	go b.read(out)
	if err := b.attach(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// attach opens a page and asks to be told what it does.
func (b *Browser) attach(ctx context.Context) error {
	var target struct {
		TargetID string `json:"targetId"`
	}
	if err := b.Call(ctx, "Target.createTarget", map[string]any{"url": "about:blank"}, &target); err != nil {
		return err
	}
	var s struct {
		SessionID string `json:"sessionId"`
	}
	if err := b.Call(ctx, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &s); err != nil {
		return err
	}
	b.mu.Lock()
	b.session = s.SessionID
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		if err := b.Call(ctx, domain+".enable", nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the browser with all its processes and waits for it.
func (b *Browser) Close() {
	b.in.Close() // it ends when nobody drives it
	patience := time.AfterFunc(5*time.Second, b.kill)
	<-b.done
	b.cmd.Wait()
	patience.Stop()
	b.kill()
}

// kill what is left of its process group, which is its own.
func (b *Browser) kill() { syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) }

// read messages, each ended by a zero, until the browser goes.
func (b *Browser) read(out *os.File) {
	defer close(b.done)
	defer out.Close()
	r := bufio.NewReader(out)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m struct {
			ID int `json:"id"`
			reply
			Event
		}
		if json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m) != nil {
			continue
		}
		b.mu.Lock()
		if c := b.waiting[m.ID]; m.ID != 0 && c != nil {
			delete(b.waiting, m.ID)
			c <- m.reply
		} else if m.Method != "" {
			b.events = append(b.events, m.Event)
			close(b.news)
			b.news = make(chan struct{})
		}
		b.mu.Unlock()
	}
}

// Call a method of the protocol.
func (b *Browser) Call(ctx context.Context, method string, params, result any) error {
	c := make(chan reply, 1)
	b.mu.Lock()
	b.last++
	m := map[string]any{"id": b.last, "method": method}
	if params != nil {
		m["params"] = params
	}
	if b.session != "" {
		m["sessionId"] = b.session
	}
	b.waiting[b.last] = c
	text, err := json.Marshal(m)
	if err == nil {
		_, err = b.in.Write(append(text, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case r := <-c:
		if r.Error != nil {
			return fmt.Errorf("%s: %s", method, r.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(r.Result, result)
	case <-b.done:
		return fmt.Errorf("%s: the browser has gone", method)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// Events that came so far.
func (b *Browser) Events() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events[:len(b.events):len(b.events)]
}

// Forget the events so far.
func (b *Browser) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = nil
}

// Open a page and wait until it has loaded.
func (b *Browser) Open(ctx context.Context, url string) error {
	seen := len(b.Events())
	var r struct {
		ErrorText string `json:"errorText"`
	}
	if err := b.Call(ctx, "Page.navigate", map[string]any{"url": url}, &r); err != nil {
		return err
	}
	if r.ErrorText != "" {
		return fmt.Errorf("open %s: %s", url, r.ErrorText)
	}
	return b.Wait(ctx, seen, "Page.loadEventFired")
}

// Wait for an event after the first seen ones.
func (b *Browser) Wait(ctx context.Context, seen int, method string) error {
	for {
		b.mu.Lock()
		for _, e := range b.events[seen:] {
			if e.Method == method {
				b.mu.Unlock()
				return nil
			}
		}
		news := b.news
		b.mu.Unlock()
		select {
		case <-news:
		case <-b.done:
			return errors.New("the browser has gone")
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", method, ctx.Err())
		}
	}
}

// Eval evaluates JavaScript in the page, waiting for a promise.
func (b *Browser) Eval(ctx context.Context, script string, result any) error {
	var r struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	err := b.Call(ctx, "Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true}, &r)
	if err != nil {
		return err
	}
	if r.Exception != nil {
		return fmt.Errorf("%s: %s %s", script, r.Exception.Text, r.Exception.Exception.Description)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(r.Result.Value, result)
}

// Screen sets the size of the page, and dark or light.
func (b *Browser) Screen(ctx context.Context, width, height int, dark bool) error {
	err := b.Call(ctx, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	if err != nil {
		return err
	}
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	return b.Call(ctx, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// Press a key: "Tab", "Enter".
func (b *Browser) Press(ctx context.Context, key string) error {
	code := map[string]int{"Tab": 9, "Enter": 13}[key]
	for _, kind := range []string{"rawKeyDown", "keyUp"} {
		m := map[string]any{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
		if key == "Enter" && kind == "rawKeyDown" {
			m["type"], m["text"] = "keyDown", "\r"
		}
		if err := b.Call(ctx, "Input.dispatchKeyEvent", m, nil); err != nil {
			return err
		}
	}
	return nil
}

// Screenshot is the whole page as PNG.
func (b *Browser) Screenshot(ctx context.Context) ([]byte, error) {
	var r struct {
		Data string `json:"data"`
	}
	if err := b.Call(ctx, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &r); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(r.Data)
}
