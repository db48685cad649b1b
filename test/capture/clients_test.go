package capture

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A client is a program that people use, and how it is called with the URLs of the servers.
type client struct {
	name string
	args func(s *servers) []string
	long bool                   // it takes seconds of CPU
	use  func(s *servers) error // what makes it connect, if it does not by itself; then it is told to end
}

// clients connect without blocking, almost all of them: what came of it is not what connect(2) returned.
func clients() []client {
	node := "const h = require('http'); for (const u of process.argv.slice(1)) h.get(u, r => r.resume()).on('error', () => {})"
	asyncio := `
import asyncio, sys
async def get(port):
    try:
        r, w = await asyncio.open_connection("127.0.0.1", int(port))
    except OSError:
        return
    w.write(b"GET / HTTP/1.0\r\n\r\n")
    await r.read()
    w.close()
async def main():
    await asyncio.gather(*(get(p) for p in sys.argv[1:]))
asyncio.run(main())`
	java := `
import java.net.URI; import java.net.http.*;
class Get { public static void main(String[] a) throws Exception { HttpClient c = HttpClient.newHttpClient();
	for (String u : a) try { c.send(HttpRequest.newBuilder(URI.create(u)).build(), HttpResponse.BodyHandlers.ofString()); } catch (java.io.IOException e) { } } }`
	return []client{
		{name: "curl", args: func(s *servers) []string { return []string{"curl", "-s", "-o", "/dev/null", s.http, s.refused} }},
		{name: "curl, HTTPS", args: func(s *servers) []string { return []string{"curl", "-s", "-k", "-o", "/dev/null", s.https} }},
		{name: "curl, IPv6 that is dead", args: func(s *servers) []string {
			return []string{"curl", "-s", "-o", "/dev/null", "--resolve", "dead.test:" + s.port + ":[::1],127.0.0.1", "http://dead.test:" + s.port}
		}},
		{name: "wget", args: func(s *servers) []string {
			return []string{"wget", "-q", "-O", "/dev/null", "--tries=1", s.http, s.refused}
		}},
		{name: "Node http", args: func(s *servers) []string { return []string{"node", "-e", node, s.http, s.refused} }},
		{name: "Python asyncio", args: func(s *servers) []string { return []string{"python3", "-c", asyncio, s.port, s.refusedPort} }},
		{name: "Go net/http, IPv6 that is dead", args: func(s *servers) []string { return []string{"", s.dead, s.http} }},
		{name: "psql", args: func(s *servers) []string { return []string{"psql", "-h", "127.0.0.1", "-p", s.rude, "-c", "SELECT 1"} }},
		{name: "redis-cli", args: func(s *servers) []string { return []string{"redis-cli", "-p", s.rude, "PING"} }},
		{name: "nginx, two upstreams", args: func(s *servers) []string {
			return []string{"nginx", "-p", s.dir, "-c", s.file("nginx.conf", s.nginx())}
		}, use: (*servers).askNginx},
		{name: "Java HttpClient", long: true, args: func(s *servers) []string {
			return []string{"java", s.file("Get.java", java), s.http, s.refused}
		}},
		{name: "Chromium, headless", long: true, args: func(s *servers) []string {
			return []string{"chromium", "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=" + s.dir, "--dump-dom", s.http}
		}},
	}
}

// servers are the other sides, and their log: what went over each connection, by the client's port.
type servers struct {
	http, https, dead, refused string // URLs
	port, refusedPort          string
	rude                       string // port of a server that says no
	front                      string // port for nginx to listen at
	dir                        string

	mu  sync.Mutex
	log map[ports][]*counted // in order of time
}

// counted is a connection as its server saw it.
type counted struct {
	net.Conn
	received, sent int64
	before         int64 // sent before the last bytes, or the end, came from the client
	of             *servers
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.received += int64(n)
	c.before = c.sent
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.sent += int64(n)
	return n, err
}

// ports are those of a client and a server. A client may get a port that another one has just used.
type ports struct{ client, server int64 }

// logOf finds the connection of a row in the log, nil if it never came to a server.
func (s *servers) logOf(t *testing.T, dir string, r row) *counted {
	t.Helper()
	between := ports{r.int("local_port"), r.int("remote_port")}
	earlier := number(t, dir, `SELECT count(*) FROM connections WHERE local_port = ? AND remote_port = ? AND outcome <> 'refused' AND via <> 'snapshot' AND time_ns < ?`,
		between.client, between.server, r.int("time_ns"))
	if all := s.log[between]; int(earlier) < len(all) {
		return all[earlier]
	}
	return nil
}

// counting is a listener whose connections are logged.
type counting struct {
	net.Listener
	of *servers
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	logged := &counted{Conn: c, of: l.of}
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	between := ports{int64(c.RemoteAddr().(*net.TCPAddr).Port), int64(c.LocalAddr().(*net.TCPAddr).Port)}
	l.of.log[between] = append(l.of.log[between], logged)
	return logged, nil
}

// refuse answers as PostgreSQL does to a client that wants TLS, and then no more.
func (l counting) refuse() {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Read(make([]byte, 1024))
		c.Write([]byte("N"))
		c.Read(make([]byte, 1024))
		c.Close()
	}
}

func (s *servers) file(name, text string) string {
	path := s.dir + "/" + name
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		panic(err)
	}
	return path
}

// nginx is the configuration of a proxy for two servers, at the first of which nobody listens.
func (s *servers) nginx() string {
	var paths string
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		paths += kind + "_temp_path " + s.dir + "/" + kind + ";\n"
	}
	return `daemon off; master_process off; pid nginx.pid; error_log error.log;
events {}
http {
access_log off;
` + paths + `
upstream both { server 127.0.0.1:` + s.refusedPort + `; server 127.0.0.1:` + s.port + `; }
server { listen 127.0.0.1:` + s.front + `; location / { proxy_pass http://both; } }
}`
}

// askNginx fetches a page through nginx, as soon as it listens.
func (s *servers) askNginx() error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		r, err := http.Get("http://127.0.0.1:" + s.front)
		if err == nil {
			defer r.Body.Close()
			if _, err = io.Copy(io.Discard, r.Body); err == nil && r.StatusCode != http.StatusOK {
				err = fmt.Errorf("nginx answers %s", r.Status)
			}
			return err
		}
		if time.Now().After(end) {
			return err
		}
	}
}

// serve begins an HTTP server, and one of HTTPS; nobody listens at another port.
func serve(t *testing.T) *servers {
	t.Helper()
	s := &servers{log: map[ports][]*counted{}, dir: tempDir(t)}
	listen := func() net.Listener {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, strings.Repeat("<p>answer</p>\n", 1000))
	})
	plain, safe := httptest.NewUnstartedServer(answer), httptest.NewUnstartedServer(answer)
	plain.Listener, safe.Listener = counting{listen(), s}, counting{listen(), s}
	safe.TLS = &tls.Config{}
	plain.Start()
	safe.StartTLS()
	t.Cleanup(plain.Close)
	t.Cleanup(safe.Close)
	rude := counting{listen(), s}
	t.Cleanup(func() { rude.Close() })
	go rude.refuse()
	closed, front := listen(), listen()
	closed.Close()
	front.Close()
	port := func(l net.Listener) string { return strconv.Itoa(l.Addr().(*net.TCPAddr).Port) }
	s.port, s.refusedPort, s.rude, s.front = port(plain.Listener), port(closed), port(rude), port(front)
	s.http, s.https = plain.URL, safe.URL
	s.dead, s.refused = "http://[::1]:"+s.port, "http://127.0.0.1:"+s.refusedPort
	return s
}

// fetch is the Go client, in a process of its own.
func fetch(urls []string) error {
	for _, url := range urls {
		r, err := http.Get(url)
		if err != nil {
			continue
		}
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	return nil
}

func (c client) command(s *servers) *exec.Cmd {
	args := c.args(s)
	if args[0] == "" {
		return helperCommand("fetch", args[1:]...)
	}
	return exec.Command(args[0], args[1:]...)
}

// TestClients: every TCP connect of programs that people use has a final outcome, and those to a server the bytes that the server counted.
func TestClients(t *testing.T) {
	dir, s := tempDir(t), serve(t)
	tape := record(t, dir, "--no-payload")
	pids := map[string]int{}
	for _, c := range clients() {
		cmd := c.command(s)
		if c.long && os.Getenv("CONNTAPE_TEST_LONG") == "" {
			continue
		}
		if err := cmd.Start(); err != nil {
			t.Logf("SKIPPED: %s: %v", c.name, err)
			continue
		}
		pids[c.name] = cmd.Process.Pid
		end := time.AfterFunc(2*patience, func() { cmd.Process.Kill() })
		if c.use != nil {
			if err := c.use(s); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			cmd.Process.Signal(unix.SIGTERM)
		}
		cmd.Wait() // what it thinks of the answers is its own
		end.Stop()
	}
	tape.stop(t)
	table := []string{"client | TCP connects | established | refused | other final | not final"}
	for _, c := range clients() {
		if pid, ran := pids[c.name]; ran {
			t.Run(c.name, func(t *testing.T) { table = append(table, verifyClient(t, dir, s, c.name, pid)) })
		}
	}
	t.Log(strings.Join(table, "\n"))
}

// verifyClient compares the rows of a process and its descendants with the log, and returns a line of the table.
func verifyClient(t *testing.T, dir string, s *servers, name string, pid int) string {
	all := rows(t, dir, `SELECT * FROM connections WHERE protocol IN ('tcp', 'mptcp') AND ancestry LIKE '%(' || ? || ')%' ORDER BY time_ns`, pid)
	n, reached := map[string]int{}, false
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range all {
		outcome := r.text("outcome")
		switch {
		case r.text("outcome_source") == "open", outcome == "in progress", outcome == "unknown":
			t.Errorf("not final: %v", r)
			outcome = "not final"
		case outcome != "established" && outcome != "refused":
			outcome = "other"
		}
		n[outcome]++
		server := s.logOf(t, dir, r)
		reached = reached || server != nil
		to := strconv.FormatInt(r.int("remote_port"), 10)
		if to == s.refusedPort && outcome != "refused" {
			t.Errorf("nobody listens at port %s: %v", to, r)
		}
		if server == nil || outcome != "established" { // curl may answer the goodbye of TLS by a reset
			continue
		}
		// A server of TLS says goodbye to who has closed already, and so does not receive it.
		if got := r.int("bytes_received"); server.received != r.int("bytes_sent") || got != server.sent && got != server.before {
			t.Errorf("the server received %d and sent %d bytes: %v", server.received, server.sent, r)
		}
	}
	if !reached {
		t.Errorf("of %d connects none reached the server", len(all))
	}
	return fmt.Sprintf("%s | %d | %d | %d | %d | %d", name, len(all), n["established"], n["refused"], n["other"], n["not final"])
}
