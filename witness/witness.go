// Package witness sends a request to a witness of transparency logs over HTTP and returns the answer.
//
// It knows HTTP and nothing of logs: package tapelog writes the requests and reads the answers. It is not linked into
// the recorder, which runs as root for months and needs no HTTP or TLS.
package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Bounds of one exchange.
const (
	MostRequest = 64 << 10 // bytes
	MostAnswer  = 64 << 10 // bytes
	timeout     = 30 * time.Second
)

// Client asks witnesses.
type Client struct {
	http http.Client
}

// NewClient returns a client. It follows no redirection: only the named witness may answer.
func NewClient() *Client {
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		MaxResponseHeaderBytes: MostAnswer,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}
	return &Client{http.Client{
		Transport:     transport,
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// ParseURL parses a witness's submission prefix (C2SP tlog-witness).
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("not an address of a witness")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("a witness has an https or http address, not %q", u.Scheme)
	case u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, errors.New("the address of a witness has a scheme, a host and perhaps a path, and nothing else")
	}
	return u, nil
}

// AddCheckpoint posts a request to add-checkpoint of the witness at u. It returns the answer's status and body; a status
// other than 200 is no error.
func (c *Client) AddCheckpoint(ctx context.Context, u *url.URL, request []byte) (status int, body []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.JoinPath("add-checkpoint").String(), bytes.NewReader(request))
	if err != nil {
		return 0, nil, fmt.Errorf("make request: %w", err)
	}
	r.Header.Set("Content-Type", "text/plain; charset=utf-8")
	r.Header.Set("User-Agent", "conntape-witness")
	answer, err := c.http.Do(r)
	if err != nil {
		return 0, nil, fmt.Errorf("ask witness: %w", err)
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, MostAnswer+1))
	if err != nil {
		return 0, nil, fmt.Errorf("read answer of witness: %w", err)
	}
	if len(body) > MostAnswer {
		return 0, nil, fmt.Errorf("the answer of the witness is longer than %d bytes", MostAnswer)
	}
	return answer.StatusCode, body, nil
}
