// Package load takes inputs into the store exactly once.
//
// # The idea
//
// An input is known by its content, never by its name. While it is read, a running SHA-256 covers the
// uncompressed bytes up to the last whole record. The input is cut into tiles; the ledger keeps, for
// each tile, where it starts and ends and the sum of everything before its end. A tile whose sum is in
// the ledger is in the store already, whatever the file is called now and however far it has grown.
//
// The life of a tile:
//
//  1. decoded: events in a batch, cut after a fixed number of rows, at the end of the input, or where
//     the ledger says that an earlier run had cut;
//  2. intended: the ledger says, before anything is sent, that this tile goes in under this token;
//  3. inserted: ClickHouse takes the batch under the token and drops it if it has seen the token;
//  4. done: the ledger says so.
//
// Two loads of one content at the same time, perhaps of a file that grew in between, would cut different tiles and not
// know of each other's: the second one waits for the first.
//
// A crash between 2 and 4 leaves an intent. The next run cuts at the same place, sends the same rows
// under the same token, and ClickHouse keeps them once in the table and in every view. A crash
// anywhere else leaves nothing behind. Decoding always starts at the beginning: what the decoder knows
// about open connections is then the same in every run, and decoding is cheap beside inserting.
package load

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"murmuration/pkg/capture"
	"murmuration/pkg/event"
	"murmuration/pkg/store"
)

// ParserVersion is written with every tile. It changes when the same bytes would give other rows.
const ParserVersion = 2

// The default bounds of a batch. Whichever is reached first cuts it: rows because ClickHouse works
// best with large blocks when views are attached, bytes because three batches are in memory at a time,
// records because a capture full of what is not a probe must still make progress in the ledger.
const (
	DefaultBatchRows  = 500_000
	DefaultBatchBytes = 128 << 20
	batchRecords      = 4_000_000
)

// ErrInterruptedElsewhere is returned when an earlier load of the same input was interrupted under
// other options (another sensor, other telescopes) or by a version that decodes otherwise: finishing it now would mix the two.
var ErrInterruptedElsewhere = errors.New("interrupted")

// Options of a Loader.
type Options struct {
	Sensor     string         // name of the sensor whose traffic the inputs hold
	Telescopes []netip.Prefix // the monitored prefixes; empty where they are not known
	BatchRows  int            // 0: DefaultBatchRows
	BatchBytes int64          // 0: DefaultBatchBytes
	Logger     *slog.Logger   // nil: slog.Default
	// Progress, if set, is called a few times a second from one goroutine at a time.
	Progress func(Progress)
}

// Progress of one input.
type Progress struct {
	Input   string
	Read    int64 // bytes of the input as it is stored (compressed) that were read
	Size    int64 // its size, 0 when unknown
	Packets uint64
	Rows    uint64 // events decoded so far
}

// Report is what came of one input.
type Report struct {
	Input    string
	ID       uint64 // the ledger's number of this content, 0 if nothing was read
	Sensor   string
	Offset   int64  // uncompressed bytes through the last whole record
	Packets  uint64 // records read
	Events   uint64 // events decoded from them
	Inserted uint64 // events that were new
	Known    uint64 // events that the store had from an earlier load
	Tally    capture.Tally
	Elapsed  time.Duration
	// Under is set where the input was loaded before under other options: "sensor=… telescopes=…".
	Under string
	Err   error // why something was left out; what was read before it is in the store
}

// Loader loads inputs.
type Loader struct {
	store *store.Store
	opt   Options
}

// New returns a Loader that writes to s.
func New(s *store.Store, opt Options) *Loader {
	if opt.BatchRows <= 0 {
		opt.BatchRows = DefaultBatchRows
	}
	if opt.BatchBytes <= 0 {
		opt.BatchBytes = DefaultBatchBytes
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	if opt.Progress == nil {
		opt.Progress = func(Progress) {}
	}
	return &Loader{store: s, opt: opt}
}

// Load reads one input and puts into the store what is not there yet. What went wrong with the input
// is in the report; the error is returned only where going on with other inputs makes no sense
// (the store is gone or full, or the context ended).
func (l *Loader) Load(ctx context.Context, in Input) (Report, error) {
	started := time.Now()
	rep := Report{Input: in.Name, Sensor: l.opt.Sensor}
	fatal := l.load(ctx, in, &rep)
	rep.Elapsed = time.Since(started)
	switch {
	case errors.Is(fatal, context.Canceled):
		rep.Err = &interrupted{fmt.Sprintf("%s: interrupted; load it again to go on", in.Name), fatal}
		fatal = rep.Err
	case fatal != nil && rep.Err == nil:
		rep.Err = fatal
	}
	// Where the context ended for a reason of its own (the engine is gone) there is no ledger to write to.
	gone := ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.Canceled)
	if (rep.ID != 0 || rep.Err != nil) && !gone {
		if err := l.record(ctx, in, &rep, started); err != nil && fatal == nil {
			fatal = err
		}
	}
	return rep, fatal
}

// interrupted is a load that its context ended.
type interrupted struct {
	sentence string
	cause    error
}

func (e *interrupted) Error() string { return e.sentence }
func (e *interrupted) Unwrap() error { return e.cause }

func (l *Loader) load(ctx context.Context, in Input, rep *Report) error {
	f, err := in.Open()
	if err != nil {
		rep.Err = err
		return nil
	}
	defer f.Close()
	r, err := capture.NewReader(f, in.Name, capture.Options{Sensor: l.opt.Sensor, Telescopes: l.opt.Telescopes})
	if err != nil {
		rep.Err = err
		return nil
	}
	defer func() { _ = r.Close() }() // It only frees the decompressor.

	first := new(event.Batch)
	if err := r.Next(first); err != nil {
		rep.Tally = r.Tally()
		rep.Err = endOfInput(err)
		return nil
	}
	t := &tiler{loader: l, reader: r, input: in, report: rep, awaitedEnd: -1}
	t.head = r.Mark().Sum
	rep.ID = binary.BigEndian.Uint64(t.head[:8])
	err = l.alone(ctx, in.Name, t.head, func(ctx context.Context) error {
		if err := t.identify(ctx); err != nil {
			return err
		}
		err := t.run(ctx, first)
		rep.Tally = r.Tally()
		rep.Packets, rep.Offset = r.Records(), r.Offset()
		for _, n := range rep.Tally.Events {
			rep.Events += n // Also those that were decoded ahead of an insert that failed.
		}
		return err
	})
	if errors.Is(err, ErrInterruptedElsewhere) {
		rep.Err, err = err, nil
	}
	if err == nil && rep.Err == nil {
		rep.Err = cmp.Or(l.matchesNothing(rep), leftOut(rep))
	}
	return err
}

// endOfInput turns the reader's last word into the report's: a clean end is no error.
func endOfInput(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// matchesNothing says so when a telescope was given and nothing in the input goes to or from it, which
// is nearly always a typing mistake.
func (l *Loader) matchesNothing(rep *Report) error {
	if len(l.opt.Telescopes) == 0 || rep.Packets == 0 {
		return nil
	}
	foreign, internal := rep.Tally.Dropped[capture.ReasonForeign], rep.Tally.Dropped[capture.ReasonInternal]
	if rep.Events == 0 && internal > 0 && internal >= rep.Packets/2 {
		return fmt.Errorf("%s: its %d packets stay inside the telescope %s, so nothing was loaded: check --telescope, which takes the monitored addresses only",
			rep.Input, rep.Packets, joinPrefixes(l.opt.Telescopes))
	}
	if rep.Events > 0 || foreign == 0 || foreign < rep.Packets/2 {
		return nil
	}
	return fmt.Errorf("%s: none of its %d packets is to or from the telescope %s, so nothing was loaded: check --telescope",
		rep.Input, rep.Packets, joinPrefixes(l.opt.Telescopes))
}

// leftOut says so when packets were left out that a capture of another kind would have given as events: those of
// an interface of an unknown link type, and all of a capture without one that can be used.
func leftOut(rep *Report) error {
	dropped := rep.Tally.Dropped
	if n := dropped[capture.ReasonLinkType]; n > 0 {
		return fmt.Errorf("%s: %d of its %d packets are of interfaces whose link type is not decoded, and were left out; the others were read",
			rep.Input, n, rep.Packets)
	}
	if n := dropped[capture.ReasonTime]; n > 0 && n == rep.Packets {
		return fmt.Errorf("%s: none of its %d packets has a time stamp that can be, so nothing was loaded: capture with time stamps", rep.Input, n)
	}
	return nil
}

func joinPrefixes(ps []netip.Prefix) string {
	s := make([]string, len(ps))
	for i, p := range ps {
		s[i] = p.String()
	}
	slices.Sort(s)
	return strings.Join(s, ",")
}

// options names everything besides the content that decides which rows come out.
func (l *Loader) options() string {
	return fmt.Sprintf("sensor=%s telescopes=%s", l.opt.Sensor, joinPrefixes(l.opt.Telescopes))
}

// tile is one batch on its way, with its place in the input.
type tile struct {
	batch      *event.Batch
	start, end capture.Mark
}

// tiler cuts one input into tiles and takes them to the store.
type tiler struct {
	loader *Loader
	reader *capture.Reader
	input  Input
	report *Report

	head  [32]byte
	known []store.Mark // the ledger's tiles of inputs that begin like this one, by end
	next  int          // first of known whose end lies ahead
	// The longest earlier tile that begins where the present one does; an end below 0 is not looked up yet.
	awaitedStart, awaitedEnd int64
}

// identify looks the input up in the ledger by the sum of its beginning: the file header and the first record.
func (t *tiler) identify(ctx context.Context) error {
	known, err := t.loader.store.Marks(ctx, t.head)
	if err != nil {
		return fmt.Errorf("look %s up in the ledger: %w", t.input.Name, err)
	}
	for _, m := range known {
		if m.Done && m.Rows > 0 && m.Options != t.loader.options() {
			t.report.Under = m.Options
		}
		if !m.Done && m.Rows > 0 && m.Options != t.loader.options() {
			return fmt.Errorf("%s: an earlier load of it with %s was %w; finish that one first (%s now)",
				t.input.Name, m.Options, ErrInterruptedElsewhere, t.loader.options())
		}
	}
	slices.SortFunc(known, func(a, b store.Mark) int {
		if a.End != b.End {
			return int(min(max(a.End-b.End, -1), 1))
		}
		return int(min(max(a.Start-b.Start, -1), 1))
	})
	t.known = known
	return nil
}

// run decodes and inserts side by side: one goroutine reads ahead by a batch while the other inserts.
func (t *tiler) run(ctx context.Context, first *event.Batch) error {
	g, gctx := errgroup.WithContext(ctx)
	tiles := make(chan tile, 1)
	free := make(chan *event.Batch, 3)
	free <- new(event.Batch)
	free <- new(event.Batch)
	g.Go(func() error {
		defer close(tiles)
		return t.decode(gctx, first, tiles, free)
	})
	g.Go(func() error {
		for tl := range tiles {
			if err := t.put(gctx, &tl); err != nil {
				return err
			}
			tl.batch.Reset()
			free <- tl.batch
		}
		return nil
	})
	return g.Wait()
}

// decode reads records to the end of the input or to its first damage, which goes into the report.
func (t *tiler) decode(ctx context.Context, b *event.Batch, tiles chan<- tile, free <-chan *event.Batch) error {
	var start capture.Mark
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	send := func() error {
		// What waits for the rest of a request's head goes out with this tile: a tile's rows may not
		// depend on what comes behind it, or a file that grew would bring the same request twice.
		t.reader.Flush(b)
		end := t.reader.Mark()
		if end.Offset == start.Offset {
			return nil
		}
		tl := tile{batch: b, start: start, end: end}
		select {
		case tiles <- tl:
		case <-ctx.Done():
			return ctx.Err()
		}
		start = end
		select {
		case b = <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	}
	sent := uint64(0)
	for n := uint64(1); ; n++ {
		if t.cut(b, start, n) {
			sent += uint64(b.Len())
			if err := send(); err != nil {
				return err
			}
			n = 0
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			t.loader.opt.Progress(t.progress(sent + uint64(b.Len())))
		default:
		}
		if err := t.reader.Next(b); err != nil {
			t.report.Err = endOfInput(err)
			sent += uint64(b.Len())
			err := send()
			t.loader.opt.Progress(t.progress(sent))
			return err
		}
	}
}

func (t *tiler) progress(rows uint64) Progress {
	return Progress{
		Input: t.input.Name, Size: t.input.Size, Read: t.reader.Consumed(),
		Packets: t.reader.Records(), Rows: rows,
	}
}

// cut says whether the tile that began at start ends here. Where an earlier run had cut this very
// content, it does: its tile can then be recognised. Where an earlier tile begins like this one, its end
// is awaited, whatever bounds this run has. Otherwise the bounds decide.
func (t *tiler) cut(b *event.Batch, start capture.Mark, records uint64) bool {
	at := t.reader.Offset()
	if at <= start.Offset {
		return false
	}
	for t.next < len(t.known) && t.known[t.next].End < at {
		t.next++
	}
	for i := t.next; i < len(t.known) && t.known[i].End == at; i++ {
		if t.known[i].Sum == t.reader.Mark().Sum {
			return true
		}
	}
	if at < t.awaited(start.Offset) {
		return b.Len() >= store.MaxBatchRows
	}
	return b.Len() >= t.loader.opt.BatchRows || b.Bytes() >= t.loader.opt.BatchBytes || records >= batchRecords
}

// awaited returns the end of the longest earlier tile that begins at start, 0 if there is none.
func (t *tiler) awaited(start int64) int64 {
	if t.awaitedStart != start || t.awaitedEnd < 0 {
		t.awaitedStart, t.awaitedEnd = start, 0
		for _, k := range t.known {
			if k.Start == start {
				t.awaitedEnd = max(t.awaitedEnd, k.End)
			}
		}
	}
	return t.awaitedEnd
}

// put takes one tile through its life.
func (t *tiler) put(ctx context.Context, tl *tile) error {
	rows := uint64(tl.batch.Len())
	m := t.mark(tl)
	if k, ok := t.match(m); ok {
		if k.Done {
			t.report.Known += rows
			return nil
		}
		token, err := t.resumed(ctx, k, m)
		if err != nil {
			return err
		}
		m.Token = token
	} else if err := t.dropShared(ctx, tl); err != nil {
		return err
	}
	if rows > 0 && tl.batch.Len() == 0 {
		// A shorter copy of what is in. A mark of it would cut the longer one where no tile ends.
		t.report.Known += rows
		return nil
	}
	if err := t.loader.store.PutMark(ctx, m); err != nil {
		return fmt.Errorf("write to the ledger: %w", err)
	}
	if err := t.loader.store.InsertEvents(ctx, tl.batch, t.report.ID, m.Token); err != nil {
		return fmt.Errorf("%s: bytes %d to %d: %w", t.input.Name, tl.start.Offset, tl.end.Offset, err)
	}
	m.Done = true
	if err := t.loader.store.PutMark(ctx, m); err != nil {
		return fmt.Errorf("write to the ledger: %w", err)
	}
	t.report.Inserted += uint64(tl.batch.Len())
	t.report.Known += rows - uint64(tl.batch.Len())
	return nil
}

// resumed returns the token under which a tile goes on that was interrupted as k: the same, since its rows may be in already. Where another version began
// it, which may have made other rows of the same bytes, that token stands for those: a new one does if none of them is in, else only that version can finish it.
func (t *tiler) resumed(ctx context.Context, k, m store.Mark) (string, error) {
	before, now := decoderOf(k.Token), decoderOf(m.Token)
	if k.Rows == 0 || before == now {
		return k.Token, nil
	}
	var done uint64
	for _, other := range t.known {
		if other.Done {
			done += other.Rows
		}
	}
	there, err := t.loader.store.EventsOf(ctx, k.Input)
	if err != nil {
		return "", fmt.Errorf("look for what an older version loaded of %s: %w", t.input.Name, err)
	}
	if there != done {
		return "", fmt.Errorf("%s: a load of it was %w at byte %d, by a version of loader that decodes otherwise (%s, this one is %s): finish it with that version",
			t.input.Name, ErrInterruptedElsewhere, k.Start, before, now)
	}
	return m.Token, nil
}

// decoderOf is the version of the decoder that a token names, such as "v2"; "unknown" for one that no loader wrote.
func decoderOf(token string) string {
	if parts := strings.SplitN(token, ":", 4); len(parts) == 4 {
		return parts[2]
	}
	return "unknown"
}

// mark is the tile as the ledger knows it. The token stands for the rows: the content up to the tile's
// end, where the tile begins, and everything that decides how bytes become rows.
func (t *tiler) mark(tl *tile) store.Mark {
	opts := t.loader.options()
	return store.Mark{
		Head: t.head, Start: tl.start.Offset, End: tl.end.Offset, Sum: tl.end.Sum,
		Token: fmt.Sprintf("%s:%d:v%d:%s", hex.EncodeToString(tl.end.Sum[:]), tl.start.Offset, ParserVersion, opts),
		Input: t.report.ID, Options: opts, Records: tl.end.Records - tl.start.Records, Rows: uint64(tl.batch.Len()),
		At: time.Now().UTC(),
	}
}

// match returns the ledger's entry for exactly this tile. One without rows that other options made does
// not count: a load with a mistyped telescope found nothing here, and must not keep the right one out.
func (t *tiler) match(m store.Mark) (store.Mark, bool) {
	for _, k := range t.known {
		if k.Start == m.Start && k.End == m.End && k.Sum == m.Sum && (k.Rows > 0 || k.Options == m.Options) {
			return k, true
		}
	}
	return store.Mark{}, false
}

// dropShared handles what sums at tile ends cannot see: this input begins the tile like one that is
// loaded and then ends sooner (a shorter copy) or goes another way. The rows that both have are told
// by comparing them with the table, and only the others stay in the batch.
func (t *tiler) dropShared(ctx context.Context, tl *tile) error {
	for _, k := range t.known {
		if k.Start != tl.start.Offset || k.Rows == 0 {
			continue
		}
		if !k.Done {
			return fmt.Errorf("%s: a load of a longer or different copy of it was %w at byte %d: load that copy again first",
				t.input.Name, ErrInterruptedElsewhere, k.Start)
		}
		have, err := t.loader.store.Have(ctx, tl.batch, t.report.ID)
		if err != nil {
			return fmt.Errorf("compare %s with what is loaded: %w", t.input.Name, err)
		}
		fresh := new(event.Batch)
		for i, known := range have {
			if !known {
				e := tl.batch.Row(i)
				fresh.Append(&e)
			}
		}
		tl.batch = fresh
		return nil
	}
	return nil
}
