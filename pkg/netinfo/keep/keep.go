// Package keep brings context files into the store: it reads them, puts them together with those that are there already, and
// has the store replace the former context at once.
package keep

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"murmuration/pkg/nearest"
	"murmuration/pkg/netinfo"
	"murmuration/pkg/store"
)

// ErrUnknown is returned for a file that the context is not made of.
var ErrUnknown = errors.New("no such context file")

// Options of Add.
type Options struct {
	Kind   string // limits what is taken from the files: netinfo.KindASN, KindCountry or KindBenign; "" takes all
	Benign string // name of the scanner of bare prefixes; "" is the file's name
	// Progress, if set, is told how much of how much a stage has done, in a unit.
	Progress func(stage string, done, total uint64, unit string)
}

// Add reads files and brings them into force, all of them or none. A file of a name that is there already takes the other's place;
// one that is there with the same content is left alone. It returns what the files are now, in the order of paths.
func Add(ctx context.Context, st *store.Store, paths []string, opt Options) ([]store.ContextFile, error) {
	if opt.Progress == nil {
		opt.Progress = func(string, uint64, uint64, string) {}
	}
	files := make([]store.ContextFile, 0, len(paths))
	networks := map[string][]netinfo.Network{}
	for _, path := range paths {
		name := filepath.Base(path)
		if _, twice := networks[name]; twice {
			return nil, fmt.Errorf("two of the files are called %s: files are told apart by their names, so rename one", name)
		}
		f, err := netinfo.ReadFile(ctx, path, netinfo.Options{Kind: opt.Kind, Benign: opt.Benign, Progress: func(read, size int64) {
			opt.Progress("reading "+name, uint64(read), uint64(size), "bytes") //nolint:gosec // Sizes of files.
		}})
		if err != nil {
			return nil, err //nolint:wrapcheck // It is a sentence.
		}
		networks[name] = f.Networks
		files = append(files, store.ContextFile{
			Name: name, Kinds: netinfo.JoinKinds(f.Kinds), Format: f.Format, Networks: uint64(len(f.Networks)), Sum: f.Sum,
			Loaded: time.Now().UTC().Truncate(time.Millisecond),
		})
	}
	err := st.ChangeContext(ctx, func(ctx context.Context, now []store.ContextFile) (*store.ContextChange, error) {
		if slices.ContainsFunc(files, func(f store.ContextFile) bool { return !known(now, &f) }) {
			return put(ctx, st, now, files, networks, opt.Progress)
		}
		return nil, nil //nolint:nilnil // All as it is.
	})
	if err != nil {
		return nil, fmt.Errorf("store the context: %w", err)
	}
	return files, nil
}

// known says whether a file is in force with the same content. What was taken of it shows in kinds and number.
func known(now []store.ContextFile, f *store.ContextFile) bool {
	return slices.ContainsFunc(now, func(n store.ContextFile) bool {
		return n.Name == f.Name && n.Sum == f.Sum && n.Kinds == f.Kinds && n.Networks == f.Networks && n.Kinds != netinfo.KindBenign
	})
}

// put makes the change that has the new files in the place of those of the same names.
func put(ctx context.Context, st *store.Store, now, files []store.ContextFile, networks map[string][]netinfo.Network, progress func(string, uint64, uint64, string)) (*store.ContextChange, error) {
	stay := slices.DeleteFunc(slices.Clone(now), func(n store.ContextFile) bool { _, replaced := networks[n.Name]; return replaced })
	return change(ctx, st, append(byAge(stay), files...), networks, progress)
}

// byAge orders files by when they were loaded: of equal networks the later file's counts.
func byAge(files []store.ContextFile) []store.ContextFile {
	slices.SortStableFunc(files, func(a, b store.ContextFile) int { return a.Loaded.Compare(b.Loaded) })
	return files
}

// change makes the context of these files, of which networks holds those of the new ones.
func change(ctx context.Context, st *store.Store, files []store.ContextFile, networks map[string][]netinfo.Network, progress func(string, uint64, uint64, string)) (*store.ContextChange, error) {
	progress("putting files together", 0, uint64(len(files)), "files")
	all := make([][]netinfo.Network, len(files))
	for i := range files {
		if fresh, ok := networks[files[i].Name]; ok {
			// A copy: Compile puts them in order, and the file's own order is kept in the store.
			all[i] = slices.Clone(fresh)
			continue
		}
		var err error
		if all[i], err = st.ContextNetworks(ctx, &files[i]); err != nil {
			return nil, err //nolint:wrapcheck // It is a sentence.
		}
	}
	ranges := netinfo.Compile(all)
	progress("putting files together", uint64(len(files)), uint64(len(files)), "files")
	return &store.ContextChange{Files: files, Networks: networks, Ranges: ranges, Progress: func(done, total uint64) { progress("writing", done, total, "rows") }}, nil
}

// Remove takes files, by their names, out of the context: all of them or none. ErrUnknown names one that is not there.
func Remove(ctx context.Context, st *store.Store, names []string, progress func(stage string, done, total uint64, unit string)) error {
	if progress == nil {
		progress = func(string, uint64, uint64, string) {}
	}
	err := st.ChangeContext(ctx, func(ctx context.Context, now []store.ContextFile) (*store.ContextChange, error) {
		var have []string
		for _, f := range now {
			have = append(have, f.Name)
		}
		for _, name := range names {
			if !slices.Contains(have, name) {
				return nil, fmt.Errorf("%w: %q%s; see `loader context list`", ErrUnknown, name, nearest.Hint(name, have))
			}
		}
		stay := slices.DeleteFunc(now, func(f store.ContextFile) bool { return slices.Contains(names, f.Name) })
		return change(ctx, st, byAge(stay), nil, progress)
	})
	if err != nil {
		return fmt.Errorf("change the context: %w", err)
	}
	return nil
}
