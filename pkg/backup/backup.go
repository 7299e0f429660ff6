// Package backup puts backups of the store where the user wants them, and brings them back: ClickHouse writes and reads them, this
// package gives it the place, keeps beside the data what was in it (the manifest), and lets a backup take its name only when it
// is whole and was restored once to see.
package backup

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"murmuration/pkg/store"
)

// ErrPlace is wrapped by errors about the files and directories that backups are in.
var ErrPlace = errors.New("backup")

// manifestName is the file beside ClickHouse's own in the directory of a backup.
const manifestName = "murmuration.json"

// tries is how often a backup is begun again because data came in while it was written.
const tries = 3

// Manifest says what a backup is.
type Manifest struct {
	ID       string            `json:"id"`
	Database string            `json:"database"` // its name when it was backed up
	Created  time.Time         `json:"created"`
	Version  string            `json:"version"` // of the program
	Tables   []store.TableRows `json:"tables"`
	Base     *Base             `json:"base,omitempty"` // what it is an increment of
	// Unverified says why a backup was not restored to see whether it is good; "" if it was.
	Unverified string `json:"-"`
}

// Base names the backup that another one is an increment of.
type Base struct {
	ID   string `json:"id"`
	Path string `json:"path"` // where it was
}

// Options of Create and Restore.
type Options struct {
	// Engine is the directory from which the embedded engine reads and writes backups; "" is a server, which does so in
	// places of its own.
	Engine string
	Disk   string   // of a server that has one for backups; "" is File
	Bases  []string // of an increment: for Create the one to build on; for Restore where they are now, if they were moved
	// Database is the name that the database of a server's backup had; "" is the present one.
	Database string
	NoVerify bool   // do not restore the backup to see whether it is good
	Version  string // of the program, for the record
	// Progress, if set, is told how many bytes of how many a stage has done; (0, 1) while that is not known.
	Progress func(stage string, done, total uint64)
}

func (o *Options) stage(name string) func(done, total uint64) {
	if o.Progress == nil {
		return func(uint64, uint64) {}
	}
	return func(done, total uint64) { o.Progress(name, done, total) }
}

// Create writes a backup: into a directory or, by its name, a file of the kind .tar or .tar.zst. What is there under that name is never
// replaced. A backup that fails or is interrupted leaves nothing under the name. On a server the name is the server's
// to make sense of, and on a cluster each shard's piece has a name of its own that begins with it.
func Create(ctx context.Context, st *store.Store, target string, o Options) (*Manifest, error) {
	m := &Manifest{ID: strings.ToLower(rand.Text()), Database: st.Database(), Created: time.Now().UTC().Truncate(time.Second), Version: o.Version}
	if o.NoVerify {
		m.Unverified = "as you asked"
	}
	if o.Engine == "" {
		return m, m.createOnServer(ctx, st, target, o)
	}
	target, err := filepath.Abs(target)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrPlace, target, err)
	}
	if err := checkFree(target); err != nil {
		return nil, err
	}
	l := links{engine: o.Engine}
	defer l.remove()
	base, err := m.findBase(&l, o.Bases)
	if err != nil {
		return nil, err
	}
	part := fmt.Sprintf("%s.part-%s", target, m.ID)
	defer os.RemoveAll(part) //nolint:errcheck // After the rename there is nothing; before it the error is already known.
	if err := m.write(ctx, st, &l, part, base, o); err != nil {
		return nil, explain(target, err)
	}
	if isArchive(target) {
		return m, explain(target, pack(ctx, part, target, o.stage("packing")))
	}
	return m, explain(target, takeName(part, target))
}

// takeName gives a whole backup its name. An empty directory that has it makes way; one that is not empty by now does not.
func takeName(part, target string) error {
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err //nolint:wrapcheck // The caller says where.
	}
	return os.Rename(part, target) //nolint:wrapcheck // The caller says where.
}

// checkFree refuses a name that is taken; an empty directory is not.
func checkFree(target string) error {
	entries, err := os.ReadDir(target)
	switch {
	case err == nil && len(entries) == 0 && !isArchive(target):
		return nil
	case err == nil || errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w %s: there is something of that name, and a backup replaces nothing: give another name", ErrPlace, target)
	case !errors.Is(err, fs.ErrNotExist):
		return explain(target, err)
	}
	if _, err := os.Stat(filepath.Dir(target)); err != nil {
		return explain(filepath.Dir(target), err)
	}
	return nil
}

// explain says what went wrong with a place.
func explain(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w %s: no room is left there: %w", ErrPlace, path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w %s: no permission: choose a place that this user may write to: %w", ErrPlace, path, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w %s: there is no such directory or file", ErrPlace, path)
	}
	return fmt.Errorf("%w %s: %w", ErrPlace, path, err)
}

// write has the engine write into the directory part, which it makes, verifies the result and puts the manifest there.
func (m *Manifest) write(ctx context.Context, st *store.Store, l *links, part string, base *store.BackupPlace, o Options) error {
	place, err := l.add(m.ID, part)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		if err := os.Mkdir(part, 0o700); err != nil {
			return err //nolint:wrapcheck // The caller says where.
		}
		m.Tables, err = st.Backup(ctx, place, base, o.stage("writing the backup"))
		if !errors.Is(err, store.ErrMoving) || try == tries {
			break
		}
		if err := os.RemoveAll(part); err != nil {
			return err //nolint:wrapcheck // The caller says where.
		}
	}
	if err == nil && !o.NoVerify {
		err = st.VerifyBackup(ctx, place, m.Tables, o.stage("verifying"))
	}
	if err != nil {
		return err //nolint:wrapcheck // It is a sentence.
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err //nolint:wrapcheck // Only plain values are in it.
	}
	return writeFile(filepath.Join(part, manifestName), append(text, '\n'))
}

// writeFile writes a file that is on disk when it returns.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // The caller says where.
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// findBase reads the backup to build on and makes it known to the engine.
func (m *Manifest) findBase(l *links, bases []string) (*store.BackupPlace, error) {
	if len(bases) == 0 {
		return nil, nil //nolint:nilnil // There is none.
	}
	if len(bases) > 1 {
		return nil, fmt.Errorf("%w: an increment builds on one base, not on %d", ErrPlace, len(bases))
	}
	path, err := filepath.Abs(bases[0])
	if err != nil {
		return nil, explain(bases[0], err)
	}
	b, err := readManifest(path)
	if err != nil {
		return nil, err
	}
	m.Base = &Base{ID: b.ID, Path: path}
	place, err := l.chain(b, path, nil)
	return &place, err
}

func (m *Manifest) createOnServer(ctx context.Context, st *store.Store, target string, o Options) error {
	place := store.BackupPlace{Disk: o.Disk, Name: target}
	var base *store.BackupPlace
	if len(o.Bases) > 0 {
		base = &store.BackupPlace{Disk: o.Disk, Name: o.Bases[0]}
		m.Base = &Base{Path: o.Bases[0]}
	}
	var err error
	if m.Tables, err = st.Backup(ctx, place, base, o.stage("writing the backup")); err != nil || o.NoVerify {
		return err //nolint:wrapcheck // It is a sentence.
	}
	if err = st.VerifyBackup(ctx, place, m.Tables, o.stage("verifying")); errors.Is(err, store.ErrUnverifiable) {
		m.Unverified = err.Error()
		return nil
	}
	return err //nolint:wrapcheck // It is a sentence.
}

// readManifest reads what the backup in a directory is.
func readManifest(dir string) (*Manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err != nil {
			return nil, explain(dir, err)
		}
		return nil, fmt.Errorf("%w %s: it has no %s, so it is no backup of `loader backup`", ErrPlace, dir, manifestName)
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("%w %s: an increment builds on the directory of a backup: unpack the archive first", ErrPlace, dir)
	}
	if err != nil {
		return nil, explain(dir, err)
	}
	m := new(Manifest)
	if err := json.Unmarshal(text, m); err != nil || m.ID == "" || strings.ContainsAny(m.ID, "/.") || m.Database == "" || len(m.Tables) == 0 {
		return nil, fmt.Errorf("%w %s: its %s is damaged", ErrPlace, dir, manifestName)
	}
	return m, nil
}

// Restore brings a backup that Create made into the store, whose database must hold nothing.
func Restore(ctx context.Context, st *store.Store, source string, o Options) (*Manifest, error) {
	if o.Engine == "" {
		m := &Manifest{Database: o.Database}
		if m.Database == "" {
			m.Database = st.Database()
		}
		if err := st.Restore(ctx, store.BackupPlace{Disk: o.Disk, Name: source}, m.Database, nil, o.stage("restoring")); err != nil {
			return nil, err //nolint:wrapcheck // It is a sentence.
		}
		var err error
		m.Tables, err = st.Contents(ctx)
		return m, err //nolint:wrapcheck // It is a sentence.
	}
	dir, err := filepath.Abs(source)
	if err != nil {
		return nil, explain(source, err)
	}
	if isArchive(dir) {
		unpacked, err := unpack(ctx, dir, o.Engine, o.stage("unpacking"))
		if err != nil {
			return nil, explain(dir, err)
		}
		defer os.RemoveAll(unpacked) //nolint:errcheck // It lies in the engine's own directory.
		if _, err := os.Stat(filepath.Join(unpacked, manifestName)); err != nil {
			// It is the last file of an archive, and an archive may be cut between two files.
			return nil, fmt.Errorf("%w %s: it holds no %s: was it cut off, or is it no backup of `loader backup`?", ErrPlace, dir, manifestName)
		}
		dir = unpacked
	}
	m, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	l := links{engine: o.Engine}
	defer l.remove()
	place, err := l.chain(m, dir, o.Bases)
	if err != nil {
		return nil, err
	}
	if err := st.Restore(ctx, place, m.Database, m.Tables, o.stage("restoring")); err != nil {
		return nil, err //nolint:wrapcheck // It is a sentence.
	}
	return m, nil
}

// links are symbolic links in the engine's directory for backups that lead to where they really are. An increment names its base by
// the link that was there when it was made, so a link is called after the backup's ID.
type links struct {
	engine string
	made   []string
}

func (l *links) add(id, path string) (store.BackupPlace, error) {
	name := "murmuration-" + id
	link := filepath.Join(l.engine, name)
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return store.BackupPlace{}, explain(link, err)
	}
	if err := os.Symlink(path, link); err != nil {
		return store.BackupPlace{}, explain(link, err)
	}
	l.made = append(l.made, link)
	return store.BackupPlace{Name: name}, nil
}

func (l *links) remove() {
	for _, link := range l.made {
		_ = os.Remove(link) // A link that stays leads to a backup or to nothing, and is replaced when it is needed.
	}
}

// chain makes a backup and all that it builds on known to the engine. moved are directories to look for bases in the first place.
func (l *links) chain(m *Manifest, path string, moved []string) (store.BackupPlace, error) {
	place, err := l.add(m.ID, path)
	for b := m.Base; err == nil && b != nil; {
		var at string
		var base *Manifest
		if at, base, err = b.find(moved); err == nil {
			_, err = l.add(base.ID, at)
			b = base.Base
		}
	}
	return place, err
}

// find looks for a base among the directories that were named, and then where it was.
func (b *Base) find(moved []string) (string, *Manifest, error) {
	for _, dir := range append(moved[:len(moved):len(moved)], b.Path) {
		m, err := readManifest(dir)
		if err == nil && m.ID == b.ID {
			abs, err := filepath.Abs(dir)
			return abs, m, explain(dir, err)
		}
	}
	return "", nil, fmt.Errorf("%w: it is an increment of the backup that was at %s and is not there: name its directory with --base", ErrPlace, b.Path)
}
