package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: conntape-witness URL < REQUEST > ANSWER

Posts a request to add-checkpoint of the witness at URL (C2SP tlog-witness), and writes the status of
HTTP as the first line and what came with it. "conntape checkpoint --push URL" runs it.
`

// Main is the program conntape-witness. It returns the exit code: 0 for an answer of any status, 1 for none, 2 for
// wrong usage.
func Main() int {
	if len(os.Args) != 2 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "conntape-witness: error: %v\n", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, address string, in io.Reader, out io.Writer) error {
	u, err := ParseURL(address)
	if err != nil {
		return err
	}
	dropPrivileges()
	request, err := io.ReadAll(io.LimitReader(in, MostRequest+1))
	if err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	if len(request) > MostRequest {
		return errors.New("the request is too long")
	}
	status, body, err := NewClient().AddCheckpoint(ctx, u, request)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "%d\n%s", status, body); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

// nobody is the user and group that own no files (the kernel's overflow id).
const nobody = 65534

// dropPrivileges gives up root before the program speaks to the network. In a container that does not map nobody the
// kernel refuses, and the user stays as it is.
func dropPrivileges() {
	if os.Geteuid() != 0 {
		return
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(nobody, nobody, nobody)); err == nil {
		_ = syscall.Setresuid(nobody, nobody, nobody)
	}
}
