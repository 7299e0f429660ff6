package store

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The schema on a cluster.
//
// The files of sql/ are written for one server, and stay the single source. On a cluster each of their statements is turned,
// by its kind, into those that bring about the same for all nodes:
//
//	CREATE TABLE t … MergeTree     t_local, where the rows are, and t, Distributed over it
//	CREATE MATERIALIZED VIEW       from t_local to u_local: it runs where the rows arrive
//	CREATE VIEW                    the same text, over the names of all nodes
//	ALTER TABLE t                  t_local; and t, for what it does to columns
//	DROP TABLE t                   t and t_local
//	TRUNCATE, OPTIMIZE, DELETE     t_local
//	INSERT                         the same text, once: t sends the rows to where they belong; what a view feeds is filled from tables of the same
//	                               shard, on every node that keeps rows of its own
//	everything else                the same text on every node
//
// Where a row lives is decided by what feeds on its table, not by a list of names: see placement.

// ErrSpread is returned for a statement that is not known to work on a cluster.
var ErrSpread = errors.New("not possible on a cluster")

// localSuffix is what the table of one node is called, behind the name of the whole.
const localSuffix = "_local"

// placement says on which shard a row of a table lives.
type placement int

const (
	// onFirst: all rows on the first shard. Tables that no view feeds on are small and written by key (runs, the ledger): one
	// home makes FINAL exact over all versions of a row.
	onFirst placement = iota
	// bySource: by a hash of the source, for what views feed on. All of a source is on one shard, so that what the shards count
	// of distinct sources adds up, and so does everything that is grouped by source.
	bySource
	// fed: by whatever the view of the shard makes of the shard's rows. Nobody else writes to it.
	fed
)

// spread turns statements for one server into those for a cluster.
type spread struct {
	cluster, database string
	replicated        bool // Replicated tables, by way of Keeper
	tables            map[string]placement
}

// step is a statement that a statement was turned into.
type step struct {
	text string
	by   doer
}

// doer says who runs a step.
type doer int

const (
	byEach   doer = iota // every node for itself
	byOne                // one node for all
	byHolder             // every node whose rows no other node sends it: of Replicated tables the first replica of a shard
)

// newSpread learns from the statements of the schema which tables there are.
func newSpread(cluster, database string, replicated bool, statements []string) *spread {
	s := &spread{cluster: cluster, database: database, replicated: replicated, tables: map[string]placement{}}
	read, written := map[string]bool{}, map[string]bool{}
	withSource := map[string]bool{}
	for _, text := range statements {
		c := parse(text)
		switch {
		case c.is("CREATE", "TABLE") && strings.HasSuffix(c.engine(), "MergeTree"):
			s.tables[c.name] = onFirst
			withSource[c.name] = slices.Contains(c.columns(), "src")
		case c.is("CREATE", "MATERIALIZED VIEW"):
			from, to := c.trigger(), c.target()
			read[c.word(from).Text], written[c.word(to).Text] = true, true
		}
	}
	for name := range s.tables {
		switch {
		case written[name]:
			s.tables[name] = fed
		case read[name] && withSource[name]:
			s.tables[name] = bySource
		}
	}
	return s
}

// steps returns what a statement becomes, in order.
func (s *spread) steps(text string) ([]step, error) {
	c := parse(text)
	_, known := s.tables[c.name]
	switch {
	case c.is("INSERT") && s.tables[c.name] == fed:
		return []step{{text: s.ofNode(c), by: byHolder}}, nil
	case c.is("INSERT"):
		return []step{{text: text, by: byOne}}, nil
	case c.is("CREATE", "TABLE") && strings.HasSuffix(c.engine(), "MergeTree"):
		return everywhere(s.local(c), s.distributed(c)), nil
	case c.is("CREATE", "MATERIALIZED VIEW"):
		return s.feed(c)
	case c.is("CREATE", "VIEW"):
		return everywhere(overAll(c)), nil
	case c.is("ALTER") && known:
		local := c.replaceName(c.name + localSuffix)
		if s.replicated {
			local = replicatedWindow(local)
		}
		steps := everywhere(local)
		if columns := c.columnActions(); columns != "" {
			steps = append(steps, step{text: text[:c.nameEnd] + " " + columns})
		}
		return steps, nil
	case c.is("DROP") && known:
		return everywhere(text, c.replaceName(c.name+localSuffix)), nil
	case (c.is("TRUNCATE") || c.is("OPTIMIZE") || c.is("DELETE")) && known:
		return everywhere(c.replaceName(c.name + localSuffix)), nil
	case c.name != "":
		return everywhere(text), nil
	}
	return nil, fmt.Errorf("%w: a statement that begins with %q", ErrSpread, strings.ToUpper(c.verb))
}

func everywhere(texts ...string) []step {
	steps := make([]step, len(texts))
	for i, t := range texts {
		steps[i].text = t
	}
	return steps
}

// local makes the table of one node.
func (s *spread) local(c clause) string {
	text := c.text
	if s.replicated {
		text = s.replicate(c)
	}
	return text[:c.nameStart] + c.name + localSuffix + text[c.nameEnd:]
}

// replicate gives a table a replicated engine. Its path in Keeper is of database, table and shard, so that a replica that
// comes later, or comes back empty, finds the others by the same statement.
func (s *spread) replicate(c clause) string {
	engine, next := c.word(c.engineAt()), c.word(c.engineAt()+1)
	arguments := fmt.Sprintf("('/clickhouse/tables/%s/%s/{shard}', '{replica}'", s.database, c.name)
	end := engine.End
	switch {
	case next.Text != "(":
		arguments += ")"
	case c.word(c.engineAt()+2).Text == ")":
		end = next.End
	default:
		arguments += ", "
		end = next.End
	}
	return c.text[:engine.Start] + "Replicated" + engine.Text + arguments + replicatedWindow(c.text[end:])
}

// replicatedWindow makes a setting of plain tables that of replicated ones. Theirs counts time, too: ten years leave it to the
// number of blocks, as with plain tables.
func replicatedWindow(text string) string {
	return plainWindow.ReplaceAllString(text, "replicated_deduplication_window = $1, replicated_deduplication_window_seconds = 315360000")
}

var plainWindow = regexp.MustCompile(`\bnon_replicated_deduplication_window\s*=\s*(\d+)`)

// distributed makes the table of the plain name.
func (s *spread) distributed(c clause) string {
	key := ""
	switch s.tables[c.name] {
	case onFirst:
		key = ", 0"
	case bySource:
		key = ", cityHash64(src)"
	case fed: // Without a key it refuses rows.
	}
	text := c.text[:c.nameEnd] + " AS " + c.name + localSuffix + fmt.Sprintf("\nENGINE = Distributed('%s', '%s', '%s'%s)", s.cluster, s.database, c.name+localSuffix, key)
	if comment := c.comment(); comment != "" {
		text += "\nCOMMENT " + comment
	}
	return text
}

// feed makes a materialised view read and write the tables of its node. What else it looks up stays that of all nodes.
func (s *spread) feed(c clause) ([]step, error) {
	to, from := c.target(), c.trigger()
	if to < 0 {
		return nil, fmt.Errorf("%w: the materialised view %s has no TO: give it a table of its own", ErrSpread, c.name)
	}
	text := c.text
	for _, i := range []int{from, to} { // TO stands before FROM: the later first.
		w := c.word(i)
		if _, known := s.tables[w.Text]; known {
			text = text[:w.End] + localSuffix + text[w.End:]
		}
	}
	return everywhere(text), nil
}

// ofNode makes a statement read and write the tables of its node.
func (s *spread) ofNode(c clause) string {
	text := c.text
	for i := len(c.words) - 1; i > 0; i-- {
		w, before := c.words[i], c.words[i-1]
		if _, known := s.tables[w.Text]; known && (isWord(before, "INTO") || isWord(before, "FROM") || isWord(before, "JOIN")) {
			text = text[:w.End] + localSuffix + text[w.End:]
		}
	}
	return text
}

// overAll lets a view join and look up tables of all nodes: each subquery is asked once, and its answer sent to the shards.
// The setting stands in the view, so that any client gets the same answer.
func overAll(c clause) string {
	const setting = "prefer_global_in_and_join = 1"
	end, tail := len(c.text), ""
	if c.comment() != "" {
		end = c.words[len(c.words)-2].Start
		tail = "\n" + c.text[end:]
	}
	join := "\nSETTINGS "
	depth := 0
	for i, w := range c.words {
		depth += depthOf(w)
		if depth == 0 && isWord(w, "SETTINGS") && i > 0 {
			join = ", "
		}
	}
	return strings.TrimRight(c.text[:end], " \t\n") + join + setting + tail
}

// onCluster makes a statement one of all nodes of a cluster. This is the only place that writes ON CLUSTER.
func onCluster(text, cluster string) (string, error) {
	c := parse(text)
	at := c.nameEnd
	if c.is("SYSTEM") {
		at = c.nameStart
	}
	if c.name == "" {
		return "", fmt.Errorf("%w: a statement that begins with %q", ErrSpread, strings.ToUpper(c.verb))
	}
	return strings.TrimSpace(strings.TrimRight(text[:at], " ") + " ON CLUSTER `" + cluster + "` " + strings.TrimLeft(text[at:], " ")), nil
}
