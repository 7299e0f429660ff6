package engine

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// LibraryEnv names the environment variable with the path of libchdb.so or of a clickhouse binary.
const LibraryEnv = "MURMURATION_ENGINE"

// Kind tells what can be run.
type Kind string

const (
	// KindLibrary is libchdb.so, loaded into the child process.
	KindLibrary Kind = "chdb"
	// KindBinary is a clickhouse binary, run as `clickhouse server` below the child process.
	KindBinary Kind = "clickhouse-binary"
)

// Library is an engine that was found.
type Library struct {
	Path string `json:"path"` // absolute
	Kind Kind   `json:"kind"`
	From string `json:"from"` // "flag", "environment", "PATH" or "npm"
}

// packageFile is where the npm package keeps the library, below a node_modules directory.
func packageFile() string {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	return filepath.Join("@chdb", "lib-"+runtime.GOOS+"-"+arch+"-gnu", "libchdb.so")
}

// Locate finds the engine: the flag's path, the path in LibraryEnv, `clickhouse` on PATH, the npm package, in that
// order. A path that was given and does not serve is an error rather than a reason to look further; when nothing is
// found the error is ErrNotFound.
func Locate(flag string) (Library, error) { return locate(flag, moduleDirs()) }

func locate(flag string, modules []string) (Library, error) {
	if flag != "" {
		return inspect(flag, "flag")
	}
	if p := os.Getenv(LibraryEnv); p != "" {
		return inspect(p, "environment")
	}
	if p, err := exec.LookPath("clickhouse"); err == nil {
		return inspect(p, "PATH")
	}
	for _, dir := range modules {
		p := filepath.Join(dir, packageFile())
		if _, err := os.Stat(p); err == nil {
			return inspect(p, "npm")
		}
	}
	return Library{}, ErrNotFound
}

// moduleDirs lists the node_modules directories worth a look: beside the executable (bin/../node_modules), in the
// working directory and above it, and where npm and the installer put things for everybody or for this user.
func moduleDirs() []string {
	var dirs []string
	if self, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		bin := filepath.Dir(self)
		dirs = append(dirs, filepath.Join(bin, "node_modules"), filepath.Join(filepath.Dir(bin), "node_modules"),
			filepath.Join(filepath.Dir(bin), "lib", "murmuration", "node_modules"))
	}
	if wd, err := os.Getwd(); err == nil {
		for {
			dirs = append(dirs, filepath.Join(wd, "node_modules"))
			parent := filepath.Dir(wd)
			if parent == wd {
				break
			}
			wd = parent
		}
	}
	if p := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(p) {
		dirs = append(dirs, filepath.Join(p, "murmuration", "engine", "node_modules"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, ".local", "share", "murmuration", "engine", "node_modules"),
			filepath.Join(home, ".local", "lib", "node_modules"))
	}
	return append(dirs, "/usr/local/lib/node_modules", "/usr/lib/node_modules")
}

// inspect tells which kind of engine a path names: the npm package's directory, a shared library, or a program.
func inspect(path, from string) (Library, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Library{}, fmt.Errorf("engine from %s: %w", from, err)
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Library{}, fmt.Errorf("engine from %s: %s does not exist; give the path of libchdb.so or of a clickhouse binary", from, path)
	case err != nil:
		return Library{}, fmt.Errorf("engine from %s: %w", from, err)
	case info.IsDir():
		return inspect(filepath.Join(abs, "libchdb.so"), from)
	case isSharedLibrary(abs) && isCut(abs):
		return Library{}, fmt.Errorf("engine from %s: %s is cut short, as a download that was interrupted leaves it; install it again (`npm ci`)", from, path)
	case isSharedLibrary(abs):
		return Library{Path: abs, Kind: KindLibrary, From: from}, nil
	case info.Mode()&0o111 != 0:
		return Library{Path: abs, Kind: KindBinary, From: from}, nil
	}
	return Library{}, fmt.Errorf("engine from %s: %s is neither libchdb.so nor an executable clickhouse binary", from, path)
}

// isSharedLibrary goes by the name, as the dynamic linker's users do: libchdb.so, libchdb.so.26 and the like. A
// program may be position-independent as well, so the type of the ELF file does not tell.
func isSharedLibrary(path string) bool {
	name := filepath.Base(path)
	return strings.HasSuffix(name, ".so") || strings.Contains(name, ".so.")
}

// isCut reports whether a library ends before the section table that its header speaks of, which stands at its end.
// The dynamic linker does not look: the process that loads such a library dies somewhere inside of it.
func isCut(path string) bool {
	f, err := elf.Open(path)
	if err == nil {
		_ = f.Close()
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
