package netinfo

import (
	"fmt"
	"io"
	"slices"

	"github.com/oschwald/maxminddb-golang/v2"
)

// readMMDB reads a MaxMind database. The keys are those of MaxMind and DB-IP (autonomous_system_number, country.iso_code), and of
// IPinfo (asn as "AS64500", as_name, country_code).
func (f *File) readMMDB(in io.Reader, opt Options) error {
	f.Format = "mmdb"
	data, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("cannot be read on: %w", err)
	}
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return fmt.Errorf("it is neither text nor a whole MaxMind database (was it cut off?): %w", err)
	}
	defer func() { _ = db.Close() }() // It only frees memory.
	w := walker{facts: map[uintptr]Fact{}}
	var all []Network
	for r := range db.Networks() {
		fact, err := w.fact(r)
		if err != nil {
			return fmt.Errorf("damaged at %s: %w", r.Prefix(), err)
		}
		n := Network{Fact: fact}
		if n.First, n.Last, err = prefix(r.Prefix().String()); err != nil {
			return err
		}
		all = append(all, n)
	}
	if len(w.has()) == 0 {
		return fmt.Errorf("a MaxMind database of type %s: it tells neither autonomous systems nor countries", clip(db.Metadata.DatabaseType))
	}
	if f.Kinds, err = wanted(w.has(), opt.Kind); err != nil {
		return err
	}
	for _, n := range all {
		f.keep(n)
	}
	return nil
}

// walker decodes what the database says, once for all networks that share a record.
type walker struct {
	facts        map[uintptr]Fact
	asn, country bool
}

func (w *walker) has() []string {
	var out []string
	if w.asn {
		out = append(out, KindASN)
	}
	if w.country {
		out = append(out, KindCountry)
	}
	return slices.Clip(out)
}

func (w *walker) fact(r maxminddb.Result) (Fact, error) {
	if err := r.Err(); err != nil {
		return Fact{}, err //nolint:wrapcheck // The caller says where.
	}
	if fact, ok := w.facts[r.Offset()]; ok {
		return fact, nil
	}
	var record map[string]any
	if err := r.Decode(&record); err != nil {
		return Fact{}, err //nolint:wrapcheck // The caller says where.
	}
	fact, err := w.decode(record)
	w.facts[r.Offset()] = fact
	return fact, err
}

func (w *walker) decode(record map[string]any) (f Fact, err error) {
	switch n := firstOf(record, "autonomous_system_number", "asn").(type) {
	case nil:
	case string:
		w.asn = true
		f.ASN, err = asn(n)
	default:
		w.asn = true
		f.ASN, err = asn(fmt.Sprint(n))
	}
	if err != nil {
		return f, err
	}
	f.ASName, _ = firstOf(record, "autonomous_system_organization", "as_name", "name").(string)
	code := firstOf(record, "country_code", "country")
	if place, ok := code.(map[string]any); ok {
		code = place["iso_code"]
	}
	if s, ok := code.(string); ok {
		w.country = true
		f.Country, err = country(s)
	}
	return f, err
}

func firstOf(record map[string]any, keys ...string) any {
	for _, k := range keys {
		if v, ok := record[k]; ok {
			return v
		}
	}
	return nil
}
