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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"murmuration/pkg/store"
)

// ErrPlace is wrapped by errors about the files and directories that backups are in.
var ErrPlace = errors.New("backup")

// ErrDamaged is wrapped by errors about a backup that is not what it was when it was written.
var ErrDamaged = errors.New("it is damaged")

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
	sweep(o.Engine)
	to, err := findPlace(target)
	if err != nil {
		return nil, err
	}
	l := links{engine: o.Engine}
	defer l.remove()
	base, err := m.findBase(&l, o.Bases)
	if err != nil {
		return nil, err
	}
	part := fmt.Sprintf("%s.part-%s", to.path, m.ID)
	defer os.RemoveAll(part) //nolint:errcheck // After the rename there is nothing; before it the error is already known.
	if err := m.write(ctx, st, &l, part, base, o); err != nil {
		return nil, explain(target, err)
	}
	if to.archive {
		err = pack(ctx, part, to, o.stage("packing"))
	} else {
		err = to.take(part)
	}
	return m, explain(target, err)
}

// write has the engine write into the directory part, which it makes, verifies the result and puts the manifest there.
func (m *Manifest) write(ctx context.Context, st *store.Store, l *links, part string, base *store.BackupPlace, o Options) error {
	link, err := l.add(m.ID, part)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		if err := os.Mkdir(part, 0o700); err != nil {
			return err //nolint:wrapcheck // The caller says where.
		}
		m.Tables, err = st.Backup(ctx, link, base, o.stage("writing the backup"))
		if !errors.Is(err, store.ErrMoving) || try == tries {
			break
		}
		if err := os.RemoveAll(part); err != nil {
			return err //nolint:wrapcheck // The caller says where.
		}
	}
	if errors.Is(err, store.ErrDiskFull) && strings.Contains(err.Error(), link.Name) {
		return syscall.ENOSPC // The engine wrote there through the link, and not to a disk of its own.
	}
	if err == nil && !o.NoVerify {
		err = verify(ctx, st, link, m.Tables, o)
	}
	if err != nil {
		return inOneLine(err)
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err //nolint:wrapcheck // Only plain values are in it.
	}
	return writeFile(filepath.Join(part, manifestName), append(text, '\n'))
}

// verify restores a backup beside the data.
func verify(ctx context.Context, st *store.Store, link store.BackupPlace, want []store.TableRows, o Options) error {
	err := st.VerifyBackup(ctx, link, want, o.stage("verifying"))
	if errors.Is(err, store.ErrDiskFull) {
		return fmt.Errorf("to verify it takes as much room beside the data (%s) as the data; --no-verify leaves it out: %w", filepath.Dir(o.Engine), err)
	}
	return err //nolint:wrapcheck // It is a sentence.
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
	link, err := l.chain(b, path, path, nil)
	if errors.Is(err, errNoBase) {
		return nil, fmt.Errorf("%w: bring it back there, or make a full backup, without --base", err)
	}
	return &link, err
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
	if errors.Is(err, syscall.ENOTDIR) && isArchive(dir) {
		return nil, fmt.Errorf("%w %s: an increment builds on the directory of a backup: unpack the archive first", ErrPlace, dir)
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, noBackup(dir)
	}
	if err != nil {
		return nil, explain(dir, err)
	}
	m := new(Manifest)
	if err := json.Unmarshal(text, m); err != nil || m.ID == "" || strings.ContainsAny(m.ID, "/.") || m.Database == "" || len(m.Tables) == 0 {
		return nil, fmt.Errorf("%w %s: %w: its %s cannot be read", ErrPlace, dir, ErrDamaged, manifestName)
	}
	return m, nil
}

func noBackup(path string) error {
	return fmt.Errorf("%w %s: this is no backup: one is a directory, or a file whose name ends in .tar or .tar.zst", ErrPlace, path)
}

// Restore brings a backup that Create made into the store, whose database must hold nothing.
func Restore(ctx context.Context, st *store.Store, source string, o Options) (*Manifest, error) {
	if o.Engine == "" {
		m := &Manifest{Database: o.Database}
		if m.Database == "" {
			m.Database = st.Database()
		}
		if err := st.Restore(ctx, store.BackupPlace{Disk: o.Disk, Name: source}, m.Database, nil, o.stage("restoring")); err != nil {
			return nil, inOneLine(err)
		}
		var err error
		m.Tables, err = st.Contents(ctx)
		return m, err //nolint:wrapcheck // It is a sentence.
	}
	source, err := filepath.Abs(source)
	if err != nil {
		return nil, explain(source, err)
	}
	sweep(o.Engine)
	dir, remove, err := opened(ctx, source, o)
	if err != nil {
		return nil, err
	}
	defer remove()
	m, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	l := links{engine: o.Engine}
	defer l.remove()
	link, err := l.chain(m, source, dir, o.Bases)
	if errors.Is(err, errNoBase) {
		return nil, fmt.Errorf("%w: name the directory where it is now with --base", err)
	}
	if err != nil {
		return nil, err
	}
	if err := st.Restore(ctx, link, m.Database, m.Tables, o.stage("restoring")); err != nil {
		return nil, m.judge(source, err)
	}
	return m, nil
}

// opened is the directory of a backup: its own, or one that its archive is unpacked to, which remove removes.
func opened(ctx context.Context, source string, o Options) (dir string, remove func(), err error) {
	info, err := os.Stat(source)
	switch {
	case err != nil:
		return "", nil, explain(source, err)
	case info.IsDir():
		return source, func() {}, nil
	case !isArchive(source) || !info.Mode().IsRegular():
		return "", nil, noBackup(source)
	}
	r, err := newRoom(o.Engine)
	if err != nil {
		return "", nil, noRoom(source, o.Engine, err)
	}
	if err = unpack(ctx, source, r.path(), o.stage("unpacking")); err == nil {
		// It is the last file of an archive, and an archive may be cut between two files.
		if _, statErr := os.Stat(filepath.Join(r.path(), manifestName)); statErr != nil {
			err = fmt.Errorf("%w %s: it holds no %s: was it cut off, or is it no backup of `loader backup`?", ErrPlace, source, manifestName)
		}
	}
	if err != nil {
		r.remove()
		return "", nil, err
	}
	return r.path(), r.remove, nil
}

// judge says of a restore that failed whether that is the backup's fault. Of what the engine says the first line is enough: the others describe a part.
func (m *Manifest) judge(source string, err error) error {
	err = inOneLine(err)
	if !errors.Is(err, store.ErrBackup) && !tellsDamage(err) {
		return err
	}
	if m.Base != nil {
		return fmt.Errorf("%w %s: %w, or what it builds on is: %w", ErrPlace, source, ErrDamaged, err)
	}
	return fmt.Errorf("%w %s: %w: %w", ErrPlace, source, ErrDamaged, err)
}

// Codes of ClickHouse's exceptions, from src/Common/ErrorCodes.cpp.
const (
	codeCannotReadAll       = 33
	codeChecksum            = 40
	codeNoFile              = 107
	codeNoFileInPart        = 226
	codeOtherFileInPart     = 227
	codeSizeInPart          = 228
	codeCorrupted           = 246
	codeCannotDecompress    = 271
	codeBackupNotFound      = 599
	codeBackupDamaged       = 601
	codeBackupEntryNotFound = 605
	codeXML                 = 1000 // an exception of the library that, among others, reads a backup's list of files
	codeStandard            = 1001 // an exception of the C++ library, such as one of its file system
)

// tellsDamage says whether the engine's complaint is about the files of a backup: what is missing, shorter or other than was written.
func tellsDamage(err error) bool {
	var ex *clickhouse.Exception
	if !errors.As(err, &ex) || errors.Is(err, store.ErrDiskFull) {
		return false
	}
	codes := []int32{codeCannotReadAll, codeChecksum, codeNoFile, codeNoFileInPart, codeOtherFileInPart, codeSizeInPart, codeCorrupted, codeCannotDecompress,
		codeBackupNotFound, codeBackupDamaged, codeBackupEntryNotFound, codeXML}
	return slices.Contains(codes, ex.Code) || ex.Code == codeStandard && strings.Contains(ex.Message, "No such file")
}

// oneLine is an error of which only the first line is printed.
type oneLine struct{ error }

func (e oneLine) Error() string {
	line, _, _ := strings.Cut(e.error.Error(), "\n")
	return line
}

func (e oneLine) Unwrap() error { return e.error }

// inOneLine shortens what the engine says, which goes on over many lines.
func inOneLine(err error) error {
	if errors.As(err, new(*clickhouse.Exception)) {
		return oneLine{err}
	}
	return err
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

// errNoBase is wrapped where what an increment builds on is not found.
var errNoBase = errors.New("is not there")

// chain makes a backup, which is called name and lies in dir, and all that it builds on known to the engine. moved are directories to look for
// bases in the first place.
func (l *links) chain(m *Manifest, name, dir string, moved []string) (store.BackupPlace, error) {
	link, err := l.add(m.ID, dir)
	for b := m.Base; err == nil && b != nil; {
		at, base, found := b.find(moved)
		if !found {
			return link, fmt.Errorf("%w %s: it is an increment of the backup that was at %s and %w", ErrPlace, name, b.Path, errNoBase)
		}
		_, err = l.add(base.ID, at)
		b, name = base.Base, at
	}
	return link, err
}

// find looks for a base among the directories that were named, and then where it was.
func (b *Base) find(moved []string) (path string, m *Manifest, found bool) {
	for _, dir := range append(moved[:len(moved):len(moved)], b.Path) {
		abs, err := filepath.Abs(dir)
		if err != nil {
			continue
		}
		if m, err := readManifest(abs); err == nil && m.ID == b.ID {
			return abs, m, true
		}
	}
	return "", nil, false
}
