package netinfo

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"murmuration/pkg/event"
)

// parser makes networks of rows.
type parser struct {
	columns
	benign string            // name of a scanner where the row has none
	places map[string]string // countries by geoname_id
	names  map[string]string // every name once: files repeat them by the ten thousand
	width  int               // columns that every line has
}

// network reads one row.
func (p *parser) network(fields []string) (n Network, err error) {
	if p.columns.network >= 0 {
		n.First, n.Last, err = prefix(p.field(fields, p.columns.network))
	} else {
		n.First, n.Last, err = span(p.field(fields, p.start), p.field(fields, p.end))
	}
	if err != nil {
		return n, err
	}
	if len(fields) < p.width {
		return n, errShort
	}
	if p.asn < 0 && p.country < 0 && p.geoname < 0 {
		if n.Benign, err = p.text(fields, p.name); n.Benign == "" {
			n.Benign = p.benign
		}
		return n, err
	}
	if n.ASN, err = asn(p.field(fields, p.asn)); err != nil {
		return n, err
	}
	if n.ASName, err = p.text(fields, p.name); err != nil {
		return n, err
	}
	if p.country < 0 && p.geoname >= 0 {
		n.Country = p.places[p.field(fields, p.geoname)]
		return n, nil
	}
	n.Country, err = country(p.field(fields, p.country))
	return n, err
}

func (p *parser) field(fields []string, i int) string {
	if i < 0 || i >= len(fields) {
		return ""
	}
	return strings.TrimSpace(fields[i])
}

// text is a field that is kept, once however often it comes.
func (p *parser) text(fields []string, i int) (string, error) {
	v := p.field(fields, i)
	if known, ok := p.names[v]; ok {
		return known, nil
	}
	if err := CheckName(v); err != nil {
		return "", err
	}
	v = strings.Clone(v)
	p.names[v] = v
	return v, nil
}

// maxName is more than any name has that a person wrote. It bounds what every answer about a network carries along.
const maxName = 256

// CheckName says in a sentence why a name cannot be kept, of a network or a scanner. What is not UTF-8 would make answers in JSON invalid.
func CheckName(v string) error {
	switch {
	case len(v) > maxName:
		return fmt.Errorf("the name %q has %d bytes, and at most %d are kept: shorten it", clip(v), len(v), maxName)
	case !utf8.ValidString(v):
		return fmt.Errorf("the name %q is not UTF-8: convert it, for example with `iconv -f latin1 -t utf-8`", v)
	case strings.IndexByte(v, 0) >= 0:
		return fmt.Errorf("the name %q has a NUL byte in it, as no text has: was the file damaged?", v)
	}
	return nil
}

// prefix reads "192.0.2.0/24", "2001:db8::/32" or one address.
func prefix(s string) (first, last event.IP, err error) {
	if !strings.Contains(s, "/") {
		return span(s, s)
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return first, last, fmt.Errorf("%q is not a prefix such as 192.0.2.0/24", clip(s))
	}
	if p != p.Masked() {
		return first, last, fmt.Errorf("%s has bits set behind its length: is %s meant?", s, p.Masked())
	}
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	first = event.IPOf(p.Addr())
	last = first
	for i := range last {
		switch left := bits - 8*i; {
		case left <= 0:
			last[i] = 0xff
		case left < 8:
			last[i] |= 0xff >> left
		}
	}
	return first, last, nil
}

// span reads two addresses, as text or, for IPv4, as numbers.
func span(a, b string) (first, last event.IP, err error) {
	from, err := address(a)
	if err != nil {
		return first, last, err
	}
	to, err := address(b)
	if err != nil {
		return first, last, err
	}
	first, last = event.IPOf(from), event.IPOf(to)
	switch {
	case from.Unmap().Is4() != to.Unmap().Is4():
		return first, last, fmt.Errorf("%s and %s are not of one family", a, b)
	case compare(first, last) > 0:
		return first, last, fmt.Errorf("the range begins at %s, behind its end %s", a, b)
	}
	return first, last, nil
}

func address(s string) (netip.Addr, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), nil //nolint:gosec // The bytes of a number.
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return a, fmt.Errorf("%q is not an address", clip(s))
	}
	return a, nil
}

func isAddress(s string) bool {
	_, err := address(strings.TrimSpace(s))
	return err == nil
}

// asn reads "13335" or "AS13335"; nothing, "-" and "None" are 0.
func asn(s string) (uint32, error) {
	if s == "" || s == "-" || s == "None" {
		return 0, nil
	}
	digits := s
	if len(s) > 2 && strings.EqualFold(s[:2], "AS") {
		digits = s[2:]
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not the number of an autonomous system", clip(s))
	}
	return uint32(n), nil
}

func isASN(s string) bool { _, err := asn(s); return err == nil }

// country reads a code of two letters; nothing, "-", "None" and "ZZ" are not known.
func country(s string) (string, error) {
	switch s {
	case "", "-", "None", "none", "ZZ", "??":
		return "", nil
	}
	if !isCountry(s) {
		return "", fmt.Errorf("%q is not a country's code of two letters", clip(s))
	}
	return strings.ToUpper(strings.Clone(s)), nil
}

func isCountry(s string) bool {
	letter := func(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
	return len(s) == 2 && letter(s[0]) && letter(s[1])
}

// clip keeps a value that is quoted in an error short.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// locations reads the file that GeoLite2's country blocks need beside them: geoname_id to country.
func locations(path string) (map[string]string, error) {
	stem, _, found := strings.Cut(path, "-Blocks-")
	if !found {
		return nil, errors.New("it has a column geoname_id and no country: only files called NAME-Blocks-….csv, with NAME-Locations-en.csv beside them, can be read so")
	}
	beside := stem + "-Locations-en.csv"
	f, err := os.Open(beside)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("its countries are numbers whose names are in %s: put that file beside it", beside)
	}
	if err != nil {
		return nil, fmt.Errorf("its countries are numbers whose names are in %s: %w", beside, err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = -1
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", beside, err)
	}
	id, code := -1, -1
	for i, h := range head {
		switch h {
		case "geoname_id":
			id = i
		case "country_iso_code":
			code = i
		}
	}
	if id < 0 || code < 0 {
		return nil, fmt.Errorf("%s: it lacks the column geoname_id or country_iso_code", beside)
	}
	out := map[string]string{}
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", beside, err)
		}
		if max(id, code) >= len(fields) {
			line, _ := r.FieldPos(0)
			return nil, fmt.Errorf("%s: line %d: %w", beside, line, errShort)
		}
		if out[fields[id]], err = country(fields[code]); err != nil {
			line, _ := r.FieldPos(0)
			return nil, fmt.Errorf("%s: line %d: %w", beside, line, err)
		}
	}
}
