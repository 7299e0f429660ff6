package netinfo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// columns says which column means what; -1 is absent.
type columns struct {
	network, start, end, asn, name, country, geoname int
}

func noColumns() columns { return columns{-1, -1, -1, -1, -1, -1, -1} }

// heading lists the names that a column has in the files that are about, in lower case with _ for other signs; of several that are
// there the earliest of the list counts.
type heading struct {
	to    *int
	names string
}

func (c *columns) headings() []heading {
	return []heading{
		{&c.network, "network prefix cidr ip_prefix ip_range range route subnet netblock net ip address ip_address"},
		{&c.start, "start_ip ip_start range_start first_ip network_start_ip ip_from start_address start first from"},
		{&c.end, "end_ip ip_end range_end last_ip network_last_ip ip_to end_address end last to"},
		{&c.asn, "autonomous_system_number asn as_number as_num asnumber origin_as origin as"},
		{&c.name, "autonomous_system_organization as_name asn_name asname as_organization as_org as_description organization organisation org name description scanner actor"},
		{&c.country, "country_code country_iso_code iso_code cc country_code2 as_country_code country"},
		{&c.geoname, "geoname_id"},
	}
}

// columnsOf tells the columns by the names above them, or by what is in them. header says whether the first row is names.
func columnsOf(ahead []row, format string) (c columns, header bool, err error) {
	first := ahead[0].fields
	if format != "list" && !isAddress(first[0]) && !strings.Contains(first[0], "/") {
		c, err = named(first)
		return c, true, err
	}
	return guessed(ahead), false, nil
}

func named(first []string) (columns, error) {
	at := map[string]int{}
	for i, h := range first {
		h = strings.NewReplacer(" ", "_", "-", "_", ".", "_").Replace(strings.ToLower(strings.TrimSpace(h)))
		if _, twice := at[h]; !twice {
			at[h] = i
		}
	}
	c := noColumns()
	for _, h := range c.headings() {
		for name := range strings.FieldsSeq(h.names) {
			if i, ok := at[name]; ok {
				*h.to = i
				break
			}
		}
	}
	if c.network >= 0 || c.start >= 0 && c.end >= 0 {
		return c, nil
	}
	return c, fmt.Errorf("%q is neither an address nor a column that says which networks are meant (network, or start_ip and end_ip)", clip(first[0]))
}

// guessed tells columns without names: addresses come first, then a number is an autonomous system, two letters are a
// country, and what is left last is a name.
func guessed(ahead []row) columns {
	c, at := noColumns(), 1
	if first := ahead[0].fields; len(first) > 1 && !strings.Contains(first[0], "/") && isAddress(first[1]) {
		c.start, c.end, at = 0, 1, 2
	} else {
		c.network = 0
	}
	width := len(ahead[0].fields)
	for i := at; i < width; i++ {
		switch {
		case c.asn < 0 && mostly(ahead, i, isASN):
			c.asn = i
		case mostly(ahead, i, isCountry):
			// Of several (continent and country) the last before the names counts.
			if c.name < 0 {
				c.country = i
			}
		case c.name < 0 || c.country < 0:
			c.name = i
		}
	}
	return c
}

// mostly says whether most values of a column that are not empty are of a sort: a few that are not are mistakes, to be told
// when they are read, and do not make the column something else.
func mostly(rows []row, i int, is func(string) bool) bool {
	yes, no := 0, 0
	for _, r := range rows {
		if i >= len(r.fields) {
			continue
		}
		switch v := strings.TrimSpace(r.fields[i]); {
		case v == "" || v == "-" || v == "None":
		case is(v):
			yes++
		default:
			no++
		}
	}
	return yes > 0 && yes >= no
}

// kinds is what the columns can tell.
func (c *columns) kinds() []string {
	var out []string
	if c.asn >= 0 {
		out = append(out, KindASN)
	}
	if c.country >= 0 || c.geoname >= 0 {
		out = append(out, KindCountry)
	}
	if len(out) == 0 || c.name >= 0 && c.asn < 0 && c.country < 0 {
		out = []string{KindBenign}
	}
	return out
}

func (c *columns) benign() bool { return slices.Contains(c.kinds(), KindBenign) }

// list takes the columns for those of a list of scanners.
func (c *columns) list() { c.asn, c.country, c.geoname = -1, -1, -1 }

var errShort = errors.New("the line has fewer columns than the ones before: was the file cut off?")
