// Command loader loads scan traffic into ClickHouse, finds the campaigns in it, and asks it questions.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"murmuration/pkg/engine"
)

// Exit statuses beyond 0 (everything asked for was done).
const (
	exitFailed      = 1   // something was left out or went wrong; standard error says what
	exitUsage       = 2   // the command line is not understood
	exitInterrupted = 130 // stopped by a signal
)

func main() {
	engine.MaybeChild()
	if os.Getenv("GOGC") == "" {
		// Batches make most of the heap, and the engine beside them makes better use of memory: collecting twice as often
		// takes a quarter off the peak, for a second of CPU in thirty.
		debug.SetGCPercent(50)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // A second signal ends what the first one cannot, such as waiting for somebody to write into a pipe.
	code := run(ctx, os.Args, environment{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr})
	stop()
	os.Exit(code)
}

// run runs one command line and returns the exit status. Tests call it as the shell would.
func run(ctx context.Context, args []string, env environment) int {
	app := newApp(env) //nolint:contextcheck // Commands take the context from the cli library when they run.
	err := app.RunContext(ctx, flagsFirst(app, args))
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		says := "what was done is kept, run the same command again for the rest"
		if own := new(interrupted); errors.As(err, own) {
			says = own.says
		}
		fmt.Fprintln(env.stderr, "loader: interrupted; "+says)
		return exitInterrupted
	case errors.As(err, new(usageError)):
		fmt.Fprintf(env.stderr, "loader: %v\n", err)
		return exitUsage
	default:
		fmt.Fprintf(env.stderr, "loader: %v\n", err)
		return exitFailed
	}
}
