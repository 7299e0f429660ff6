package engine

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// layout holds the absolute paths of everything in a data directory.
type layout struct {
	Dir                         string
	Lock, State, Socket         string
	Password, ReaderPassword    string
	Config, Users               string
	Log, ErrorLog, Stderr       string
	Data, Tmp, Backups          string
	UserFiles, UserScripts      string
	FormatSchemas               string
	configDir, logDir, statusOf string
}

func newLayout(dir string) layout {
	in := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	return layout{
		Dir: dir, Lock: in("engine.lock"), State: in("engine.json"), Socket: in("control.sock"),
		Password: in("password"), ReaderPassword: in("reader.password"),
		configDir: in("config"), Config: in("config", "config.xml"), Users: in("config", "users.xml"),
		logDir: in("log"), Log: in("log", "engine.log"), ErrorLog: in("log", "engine.err.log"), Stderr: in("log", "engine.stderr"),
		Data: in("data"), Tmp: in("data", "tmp"), Backups: in("backups"),
		UserFiles: in("user_files"), UserScripts: in("user_scripts"), FormatSchemas: in("format_schemas"),
		statusOf: in("data", "status"),
	}
}

// openDir makes the data directory if need be, closes it to others, and refuses one that holds something else.
func openDir(dir string) (layout, error) {
	if dir == "" {
		return layout{}, errors.New("no data directory given")
	}
	if err := checkName(dir); err != nil {
		return layout{}, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return layout{}, explain(dir, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return layout{}, explain(dir, err)
	}
	// One directory has one name here, whatever links lead to it: the name goes into the state and the configuration.
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return layout{}, explain(dir, err)
	}
	l := newLayout(abs)
	if err := l.checkOwn(); err != nil {
		return layout{}, err
	}
	info, err := os.Stat(abs)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = os.Chmod(abs, 0o700)
	}
	return l, explain(dir, err)
}

// checkName refuses names that ClickHouse's configuration cannot hold.
func checkName(dir string) error {
	switch {
	case !utf8.ValidString(dir):
		return fmt.Errorf("data directory %q: its name is not valid UTF-8; choose another", dir)
	case strings.IndexFunc(dir, unicode.IsControl) >= 0:
		return fmt.Errorf("data directory %q: its name holds a control character; choose another", dir)
	case strings.Contains(dir, `\`):
		return fmt.Errorf("data directory %q: its name holds a backslash, which ClickHouse takes for a slash; choose another", dir)
	case strings.Contains(dir, "${"):
		return fmt.Errorf("data directory %q: its name holds \"${\", which the engine's configuration would expand; choose another", dir)
	}
	return nil
}

// checkOwn refuses a directory that holds files but no engine's lock: a wrong --data should not be filled.
func (l layout) checkOwn() error {
	if _, err := os.Stat(l.Lock); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return explain(l.Dir, err)
	}
	entries, err := os.ReadDir(l.Dir)
	if err != nil {
		return explain(l.Dir, err)
	}
	for _, e := range entries {
		switch e.Name() {
		case "lost+found", filepath.Base(l.Lock):
			continue
		}
		// Another process may be making its first files at this moment; its lock comes first.
		if _, err := os.Stat(l.Lock); err == nil {
			return nil
		}
		return fmt.Errorf("data directory %s: it holds %q and is not an engine's; choose an empty or a new directory", l.Dir, e.Name())
	}
	return nil
}

// makeDirs makes the directories below the data directory.
func (l layout) makeDirs() error {
	for _, d := range []string{l.configDir, l.logDir, l.Data, l.Backups, l.UserFiles, l.UserScripts, l.FormatSchemas} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return explain(l.Dir, err)
		}
	}
	return nil
}

// passwordBytes is the entropy of a password; its file holds twice as many hexadecimal digits and a line end.
const passwordBytes = 32

// ensurePassword returns the password in a file, making the file first if it is absent, damaged, or was open to others.
// The caller holds the lock.
func ensurePassword(path string) (string, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 == 0 {
		if pw, err := readPassword(path); err == nil {
			return pw, nil
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	secret := make([]byte, passwordBytes)
	_, _ = rand.Read(secret) // Never fails: crypto/rand ends the program instead.
	pw := hex.EncodeToString(secret)
	return pw, writeFile(path, []byte(pw+"\n"))
}

func readPassword(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	pw := strings.TrimSuffix(string(b), "\n")
	if n, err := hex.DecodeString(pw); err != nil || len(n) != passwordBytes {
		return "", fmt.Errorf("%s does not hold a password", path)
	}
	return pw, nil
}

func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// writeFile replaces a file at once and for good: a new file, readable by the owner alone, that takes the name when
// it is complete and on disk.
func writeFile(path string, data []byte) (err error) {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
