package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestParseURL(t *testing.T) {
	for _, good := range []string{"https://witness.example", "https://witness.example/a/b", "http://127.0.0.1:7380", "https://[::1]:1/x/"} {
		if _, err := ParseURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "witness.example", "ftp://witness.example", "file:///etc/passwd", "https://", "https:///x", "https://u:p@h/", "https://h/?q", "https://h/#f", "://", "https://h\x00", "gopher://h", "javascript:1", "-x"} {
		if u, err := ParseURL(bad); err == nil {
			t.Errorf("%q is taken: %v", bad, u)
		}
	}
}

// One request goes out unchanged to one address, and the witness's answer comes back unchanged.
func TestAddCheckpoint(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || string(body) != "old 0\n\nx\n" {
			t.Errorf("%s %q, %v", r.Method, body, err)
		}
		switch r.URL.Path {
		case "/w1/add-checkpoint":
			fmt.Fprint(w, "answer\n")
		case "/409/add-checkpoint":
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, "17\n")
		case "/moved/add-checkpoint":
			http.Redirect(w, r, "/w1/add-checkpoint", http.StatusTemporaryRedirect)
		case "/huge/add-checkpoint":
			for range 1000 {
				w.Write(bytes.Repeat([]byte("a"), 1<<20))
			}
		case "/junk/add-checkpoint":
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Write([]byte("SSH-2.0-OpenSSH\r\n"))
			conn.Close()
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	ask := func(path string) (int, string, error) {
		u, err := ParseURL(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		status, body, err := NewClient().AddCheckpoint(context.Background(), u, []byte("old 0\n\nx\n"))
		return status, string(body), err
	}
	for path, want := range map[string]string{"/w1": "200 answer\n", "/w1/": "200 answer\n", "/409": "409 17\n"} {
		if status, body, err := ask(path); err != nil || fmt.Sprint(status, " ", body) != want {
			t.Errorf("%s: %d %q, %v", path, status, body, err)
		}
	}
	if status, _, err := ask("/nowhere"); err != nil || status != 404 {
		t.Errorf("404: %d, %v", status, err)
	}
	before := asked
	if status, _, err := ask("/moved"); err != nil || status != 307 || asked != before+1 {
		t.Errorf("a redirection: %d, %v, asked %d times", status, err, asked-before)
	}
	for _, path := range []string{"/huge", "/junk"} {
		if status, _, err := ask(path); err == nil {
			t.Errorf("%s: %d is taken", path, status)
		}
	}
}

// A cancelled context ends the wait for a witness that never answers.
func TestNoAnswer(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	u, err := ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, _, err := NewClient().AddCheckpoint(ctx, u, nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	client := NewClient()
	if client.http.Timeout != timeout {
		t.Errorf("without a limit of the caller it waits %v", client.http.Timeout)
	}
}
