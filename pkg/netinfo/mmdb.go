package netinfo

import (
	"bytes"
	"errors"
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
		return notMMDB(data, err)
	}
	defer func() { _ = db.Close() }() // It only frees memory.
	w := walker{facts: map[uintptr]Fact{}}
	var all []Network
	for r := range db.Networks() {
		fact, err := w.fact(r)
		if err != nil {
			return fmt.Errorf("at %s: %w", r.Prefix(), err)
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

var errUTF16 = errors.New("it is text in UTF-16: convert it to UTF-8, for example with `iconv -f UTF-16 -t UTF-8`")

// notMMDB says what a file is that has NUL bytes and is no database.
func notMMDB(data []byte, err error) error {
	head := data[:min(len(data), 4096)]
	switch {
	case utf16(head):
		return errUTF16
	case textual(head):
		line := 1 + bytes.Count(head[:bytes.IndexByte(head, 0)], []byte("\n"))
		return fmt.Errorf("line %d: there is a NUL byte in it, as in no text: was the file damaged?", line)
	}
	return fmt.Errorf("it is neither text nor a whole MaxMind database (was it cut off?): %w", err)
}

// utf16 tells text in UTF-16 by the mark that begins it, or by every other byte being NUL.
func utf16(head []byte) bool {
	if bytes.HasPrefix(head, []byte{0xff, 0xfe}) || bytes.HasPrefix(head, []byte{0xfe, 0xff}) {
		return true
	}
	var null [2]int
	for i, b := range head {
		if b == 0 {
			null[i%2]++
		}
	}
	half := len(head) / 2
	return textual(head) && (null == [2]int{half, 0} && len(head)%2 == 0 || null == [2]int{0, half}) && half > 0
}

// textual says whether all bytes but NUL are those of text.
func textual(head []byte) bool {
	for _, b := range head {
		if b < ' ' && b != 0 && b != '\t' && b != '\r' && b != '\n' {
			return false
		}
	}
	return true
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
	if err := CheckName(f.ASName); err != nil {
		return f, err
	}
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
