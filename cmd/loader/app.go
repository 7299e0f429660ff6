package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/engine"
	"murmuration/pkg/nearest"
)

// version is the program's; it stands in loads, in campaign_runs and in the CHANGELOG.
const version = "0.1.0"

// environment is what a command reads from and writes to, so that tests can stand in for a terminal.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

// usageError is a command line that cannot be carried out as it is written.
type usageError struct{ error }

func usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

func newApp(env environment) *cli.App {
	return &cli.App{
		Name:    "loader",
		Usage:   "load scan traffic into ClickHouse, find the coordinated campaigns in it, ask it questions",
		Version: version,
		Description: "Without --dsn everything is kept by an embedded ClickHouse in your data directory, which starts by itself.\n" +
			"Flags may stand before or after the arguments.",
		Flags: connectionFlags(),
		Commands: []*cli.Command{
			upCommand(env), loadCommand(env), telescopeCommand(env), contextCommand(env), detectCommand(env), campaignsCommand(env), surgesCommand(env), queryCommand(env), backupCommand(env), restoreCommand(env), exportCommand(env), retentionCommand(env), migrateCommand(env), evaluateCommand(env), benchCommand(env),
		},
		Reader: env.stdin, Writer: env.stdout, ErrWriter: env.stderr,
		HideHelpCommand: true,
		// Errors are printed by run, once, and never end the process from inside.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   usageErrorOf,
		CommandNotFound: func(c *cli.Context, name string) {
			fmt.Fprintf(env.stderr, "loader: there is no command %q%s\n", name, nearest.Hint(name, commandNames(c.App)))
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("there is no command %q%s", c.Args().First(), nearest.Hint(c.Args().First(), commandNames(c.App)))
			}
			return cli.ShowAppHelp(c)
		},
	}
}

func commandNames(app *cli.App) []string {
	var names []string
	for _, c := range app.Commands {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return names
}

func usageErrorOf(c *cli.Context, err error, _ bool) error {
	name := "loader"
	var flags []string
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != name {
		name = c.Command.HelpName
		for _, f := range c.Command.Flags {
			flags = append(flags, f.Names()...)
		}
	}
	// The library has no error of its own for it.
	if flag, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok && len(flags) > 0 {
		return usagef("%s has no flag --%s%s; see %s --help", name, strings.TrimPrefix(flag, "-"), nearest.Hint(flag, flags), name)
	}
	return usageError{fmt.Errorf("%w; see %s --help", err, name)}
}

// connectionFlags are the flags that every command takes: where the data is.
func connectionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "dsn", EnvVars: []string{"MURMURATION_DSN"}, DefaultText: "embedded:" + defaultDir(),
			Usage: "`WHERE` the data is: embedded:DIR or clickhouse://user:password@host:9000/database"},
		&cli.StringFlag{Name: "cluster", EnvVars: []string{"MURMURATION_CLUSTER"}, Usage: "`NAME` of the cluster, in the servers' remote_servers, that the database is spread over"},
		&cli.StringFlag{Name: "engine", EnvVars: []string{engine.LibraryEnv}, Usage: "`FILE` of the embedded engine: libchdb.so or a clickhouse binary"},
		&cli.StringFlag{Name: "log-level", Usage: "debug, info, warn or error", Value: "warn", EnvVars: []string{"MURMURATION_LOG_LEVEL"}},
	}
}

// withConnection adds the connection flags to a command's own.
func withConnection(flags ...cli.Flag) []cli.Flag { return append(flags, connectionFlags()...) }

// defaultDir is where the embedded engine keeps its data unless told otherwise: the user's data
// directory by the XDG base directory specification.
func defaultDir() string {
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "murmuration")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "murmuration-data"
	}
	return filepath.Join(home, ".local", "share", "murmuration")
}

// flagString returns a flag's value wherever on the command line it was given: behind the command or
// before it. (The library looks only at the innermost context that declares the flag.)
func flagString(c *cli.Context, name string) string {
	for _, x := range c.Lineage() {
		if slices.Contains(x.LocalFlagNames(), name) {
			return x.String(name)
		}
	}
	return c.String(name)
}

func newLogger(c *cli.Context, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(flagString(c, "log-level"))); err != nil {
		return nil, usagef("--log-level takes debug, info, warn or error, not %q", flagString(c, "log-level"))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})), nil
}

// flagsFirst moves the flags of a command in front of its arguments, because people write
// `loader load FILE --sensor a` and the library stops looking for flags at the first argument.
// Everything behind "--" stays as it is.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	out, flags := []string{args[0]}, app.Flags
	commands := app.Commands
	rest := args[1:]
	var operands []string
	for len(rest) > 0 {
		a := rest[0]
		rest = rest[1:]
		if a == "--" {
			operands = append(append(operands, a), rest...)
			break
		}
		if name, _, _ := strings.Cut(a, "="); len(a) > 1 && a[0] == '-' && !strings.ContainsAny(name, " \t\n") {
			// What has a space in its name is no flag but SQL that begins with a comment.
			out = append(out, a)
			if takesValue(flags, a) && len(rest) > 0 {
				out = append(out, rest[0])
				rest = rest[1:]
			}
			continue
		}
		if cmd := find(commands, a); cmd != nil && len(operands) == 0 {
			out = append(out, a)
			flags, commands = cmd.Flags, cmd.Subcommands
			continue
		}
		operands = append(operands, a)
		commands = nil
	}
	if len(operands) > 0 && operands[0] != "--" {
		out = append(out, "--")
	}
	return append(out, operands...)
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// takesValue says whether arg ("-f", "--flag") is a flag whose value is the next argument.
func takesValue(flags []cli.Flag, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}

// joinErrors prints as one line per error, which suits a list of files better than one long sentence.
func joinErrors(errs []error) error { return errors.Join(errs...) }
