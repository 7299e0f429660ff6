package netinfo

import (
	"bytes"
	"compress/gzip"
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

// write puts a file into a directory of its own and returns its path.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// network is a Network written short.
func network(first, last string, f Fact) Network {
	return Network{First: event.IPOf(netip.MustParseAddr(first)), Last: event.IPOf(netip.MustParseAddr(last)), Fact: f}
}

func TestLayouts(t *testing.T) {
	cloud, six := Fact{ASN: 64500, ASName: `Cloud, "Inc"`}, Fact{ASN: 64501, ASName: "Six"}
	for what, c := range map[string]struct {
		name, content string
		opt           Options
		format, kinds string
		want          []Network
	}{
		"GeoLite2 ASN": {"GeoLite2-ASN-Blocks-IPv4.csv", "network,autonomous_system_number,autonomous_system_organization\n192.0.2.0/24,64500,\"Cloud, \"\"Inc\"\"\"\n2001:db8::/32,64501,Six\n", Options{}, "csv", "asn",
			[]Network{network("192.0.2.0", "192.0.2.255", cloud), network("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", six)}},
		"CIDR without names, Windows line ends, BOM": {"ip-to-asn.csv", "\ufeff192.0.2.0/25,AS64501,Six\r\n198.51.100.7,64501,Six\r\n", Options{}, "csv", "asn",
			[]Network{network("192.0.2.0", "192.0.2.127", six), network("198.51.100.7", "198.51.100.7", six)}},
		"iptoasn": {"ip2asn-combined.tsv", "1.0.0.0\t1.0.0.255\t13335\tUS\tCLOUDFLARENET\n1.0.1.0\t1.0.3.255\t0\tNone\tNot routed\n2001:200::\t2001:200:5ff:ffff:ffff:ffff:ffff:ffff\t2500\tJP\tWIDE-BB \"WIDE\n", Options{}, "tsv", "asn country",
			[]Network{network("1.0.0.0", "1.0.0.255", Fact{ASN: 13335, ASName: "CLOUDFLARENET", Country: "US"}), network("2001:200::", "2001:200:5ff:ffff:ffff:ffff:ffff:ffff", Fact{ASN: 2500, ASName: `WIDE-BB "WIDE`, Country: "JP"})}},
		"iptoasn, numbers, one kind": {"ip2asn-v4-u32.tsv", "16777216\t16777471\t13335\tUS\tCLOUDFLARENET\n", Options{Kind: KindCountry}, "tsv", "country",
			[]Network{network("1.0.0.0", "1.0.0.255", Fact{Country: "US"})}},
		"DB-IP country": {"dbip-country-lite.csv", "0.0.0.0,0.255.255.255,ZZ\n1.0.0.0,1.0.0.255,AU\n", Options{}, "csv", "country", []Network{network("1.0.0.0", "1.0.0.255", Fact{Country: "AU"})}},
		"DB-IP ASN":     {"dbip-asn-lite.csv", "1.0.0.0,1.0.0.255,13335,\"Cloudflare, Inc.\"\n", Options{}, "csv", "asn", []Network{network("1.0.0.0", "1.0.0.255", Fact{ASN: 13335, ASName: "Cloudflare, Inc."})}},
		"DB-IP city":    {"dbip-city-lite.csv", "1.0.0.0,1.0.0.255,OC,AU,Queensland,South Brisbane,-27.4767,153.017\n", Options{}, "csv", "country", []Network{network("1.0.0.0", "1.0.0.255", Fact{Country: "AU"})}},
		"IPinfo":        {"ipinfo_lite.csv", "network,country,country_code,continent,continent_code,asn,as_name,as_domain\n1.0.0.0/24,Australia,AU,Oceania,OC,AS13335,\"Cloudflare, Inc.\",cloudflare.com\n", Options{}, "csv", "asn country", []Network{network("1.0.0.0", "1.0.0.255", Fact{ASN: 13335, ASName: "Cloudflare, Inc.", Country: "AU"})}},
		"list of a scanner": {"shadow.survey.txt", "# scanners\n192.0.2.0/28\n\n2001:db8::1 # host six\n198.51.100.1 Other Survey # why\n", Options{}, "list", "benign",
			[]Network{network("192.0.2.0", "192.0.2.15", Fact{Benign: "shadow"}), network("2001:db8::1", "2001:db8::1", Fact{Benign: "shadow"}), network("198.51.100.1", "198.51.100.1", Fact{Benign: "Other Survey"})}},
		"named list":         {"x.txt", "192.0.2.0/28\n", Options{Benign: "Census"}, "list", "benign", []Network{network("192.0.2.0", "192.0.2.15", Fact{Benign: "Census"})}},
		"CSV of scanners":    {"scanners.csv", "ip;scanner\n192.0.2.1;Census\n192.0.2.2;\n", Options{}, "csv", "benign", []Network{network("192.0.2.1", "192.0.2.1", Fact{Benign: "Census"}), network("192.0.2.2", "192.0.2.2", Fact{Benign: "scanners"})}},
		"ASN file as list":   {"hosters.csv", "network,asn,name\n192.0.2.0/24,64500,Census\n", Options{Kind: KindBenign}, "csv", "benign", []Network{network("192.0.2.0", "192.0.2.255", Fact{Benign: "Census"})}},
		"over both families": {"all.csv", "start_ip,end_ip,asn\n::,ffff::,64501\n", Options{}, "csv", "asn", []Network{network("::", "ffff::", Fact{ASN: 64501})}},
		"mapped":             {"mapped.csv", "::ffff:192.0.2.0/120,64501\n", Options{}, "csv", "asn", []Network{network("192.0.2.0", "192.0.2.255", Fact{ASN: 64501})}},
	} {
		t.Run(what, func(t *testing.T) {
			if what == "ASN file as list" {
				_, err := ReadFile(t.Context(), write(t, c.name, c.content), c.opt)
				require.ErrorContains(t, err, "it tells asn of networks, not benign")
				return
			}
			f, err := ReadFile(t.Context(), write(t, c.name, c.content), c.opt)
			require.NoError(t, err)
			assert.Equal(t, c.format, f.Format)
			assert.Equal(t, c.kinds, JoinKinds(f.Kinds))
			assert.Equal(t, c.want, f.Networks)
		})
	}
}

// GeoLite2 keeps the countries of its blocks in another file.
func TestGeoLite2Country(t *testing.T) {
	dir := t.TempDir()
	blocks := filepath.Join(dir, "GeoLite2-Country-Blocks-IPv4.csv")
	require.NoError(t, os.WriteFile(blocks, []byte("network,geoname_id,registered_country_geoname_id,represented_country_geoname_id,is_anonymous_proxy\n192.0.2.0/24,2077456,1,,0\n198.51.100.0/24,,1,,0\n"), 0o600))
	_, err := ReadFile(t.Context(), blocks, Options{})
	require.ErrorContains(t, err, "GeoLite2-Country-Locations-en.csv: put that file beside it")
	beside := filepath.Join(dir, "GeoLite2-Country-Locations-en.csv")
	require.NoError(t, os.WriteFile(beside, []byte("geoname_id,locale_code,continent_code,continent_name,country_iso_code,country_name\n2077456,en,OC,Oceania,AU,Australia\n"), 0o600))
	f, err := ReadFile(t.Context(), blocks, Options{})
	require.NoError(t, err)
	assert.Equal(t, []Network{network("192.0.2.0", "192.0.2.255", Fact{Country: "AU"})}, f.Networks)
	require.NoError(t, os.WriteFile(beside, []byte("geoname_id,country_iso_code\n1,AU\n2,Australia\n"), 0o600))
	_, err = ReadFile(t.Context(), blocks, Options{})
	require.ErrorContains(t, err, `Locations-en.csv: line 3: "Australia" is not a country's code`)
}

// mmdb writes a MaxMind database of networks.
func mmdb(t testing.TB, records map[string]mmdbtype.Map) []byte {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test", RecordSize: 24, IncludeReservedNetworks: true})
	require.NoError(t, err)
	for cidr, r := range records {
		_, n, err := net.ParseCIDR(cidr)
		require.NoError(t, err)
		require.NoError(t, tree.Insert(n, r))
	}
	var b bytes.Buffer
	_, err = tree.WriteTo(&b)
	require.NoError(t, err)
	return b.Bytes()
}

func TestMMDB(t *testing.T) {
	for what, c := range map[string]struct {
		records map[string]mmdbtype.Map
		kinds   string
		want    []Network
	}{
		"MaxMind ASN": {map[string]mmdbtype.Map{
			"192.0.2.0/24":  {"autonomous_system_number": mmdbtype.Uint32(64500), "autonomous_system_organization": mmdbtype.String("Cloud")},
			"2001:db8::/32": {"autonomous_system_number": mmdbtype.Uint32(64501), "autonomous_system_organization": mmdbtype.String("Six")},
		}, "asn", []Network{network("192.0.2.0", "192.0.2.255", Fact{ASN: 64500, ASName: "Cloud"}), network("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Fact{ASN: 64501, ASName: "Six"})}},
		"MaxMind country": {map[string]mmdbtype.Map{
			"192.0.2.128/25": {"country": mmdbtype.Map{"iso_code": mmdbtype.String("AU")}, "continent": mmdbtype.Map{"code": mmdbtype.String("OC")}},
			"192.0.2.0/25":   {"continent": mmdbtype.Map{"code": mmdbtype.String("OC")}},
		}, "country", []Network{network("192.0.2.128", "192.0.2.255", Fact{Country: "AU"})}},
		"IPinfo": {map[string]mmdbtype.Map{
			"192.0.2.0/24": {"asn": mmdbtype.String("AS64500"), "as_name": mmdbtype.String("Cloud"), "country": mmdbtype.String("Australia"), "country_code": mmdbtype.String("AU")},
		}, "asn country", []Network{network("192.0.2.0", "192.0.2.255", Fact{ASN: 64500, ASName: "Cloud", Country: "AU"})}},
	} {
		t.Run(what, func(t *testing.T) {
			f, err := ReadFile(t.Context(), write(t, "x.mmdb", string(mmdb(t, c.records))), Options{})
			require.NoError(t, err)
			assert.Equal(t, c.kinds, JoinKinds(f.Kinds))
			assert.Equal(t, "mmdb", f.Format)
			assert.Equal(t, c.want, f.Networks)
		})
	}
	whole := mmdb(t, map[string]mmdbtype.Map{"192.0.2.0/24": {"autonomous_system_number": mmdbtype.Uint32(64500)}})
	for n := 1; n < len(whole); n += 7 {
		_, err := ReadFile(t.Context(), write(t, "cut.mmdb", string(whole[:n])), Options{})
		require.ErrorIs(t, err, ErrFile, "%d bytes", n)
	}
	for name, says := range map[string]string{"Telef\xf3nica": "at 192.0.2.0/24: the name \"Telef\\xf3nica\" is not UTF-8", strings.Repeat("x", 300): "at 192.0.2.0/24: the name \"xxx"} {
		_, err := ReadFile(t.Context(), write(t, "x.mmdb", string(mmdb(t, map[string]mmdbtype.Map{"192.0.2.0/24": {"asn": mmdbtype.Uint32(64500), "name": mmdbtype.String(name)}}))), Options{})
		require.ErrorContains(t, err, says)
	}
	_, err := ReadFile(t.Context(), write(t, "x.mmdb", string(mmdb(t, map[string]mmdbtype.Map{"192.0.2.0/24": {"city": mmdbtype.String("x")}}))), Options{})
	require.ErrorContains(t, err, "it tells neither autonomous systems nor countries")
}

func TestCompressed(t *testing.T) {
	const text = "192.0.2.0/24,64500,Cloud\n198.51.100.0/24,64501,Six\n"
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, err := w.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	enc, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	plain, err := ReadFile(t.Context(), write(t, "a.csv", text), Options{})
	require.NoError(t, err)
	for name, content := range map[string]string{"a.csv.gz": gz.String(), "a.csv.zst": string(enc.EncodeAll([]byte(text), nil))} {
		f, err := ReadFile(t.Context(), write(t, name, content), Options{})
		require.NoError(t, err, name)
		assert.Equal(t, plain.Networks, f.Networks)
		assert.NotEqual(t, plain.Sum, f.Sum)
		_, err = ReadFile(t.Context(), write(t, name, content[:len(content)-9]), Options{})
		require.ErrorIs(t, err, ErrFile, "%s cut off", name)
	}
}

func TestBadFiles(t *testing.T) {
	good := "192.0.2.0/24,64500,Cloud\n"
	for what, c := range map[string]struct{ content, says string }{
		"empty":                {"", "the file is empty"},
		"comments":             {"# nothing\n", "nothing but comments"},
		"no facts":             {"1.0.0.0,1.0.0.255,0,None\n", "it says nothing of any network"},
		"no network column":    {"country,name\nDE,x\n", `line 1: "country" is neither an address nor a column`},
		"HTML":                 {"<html>, not found</html>\n", "neither an address nor a column"},
		"host bits":            {good + "198.51.100.1/24,64501,Six\n", "line 2: 198.51.100.1/24 has bits set behind its length: is 198.51.100.0/24 meant?"},
		"no prefix":            {good + "198.51.100.0/33,64501,Six\n", `line 2: "198.51.100.0/33" is not a prefix`},
		"ASN too large":        {strings.Repeat(good, 300) + "198.51.100.0/24,4294967296,Six\n", `line 301: "4294967296" is not the number of an autonomous system`},
		"country":              {strings.Repeat("1.0.0.0,1.0.0.255,DE\n", 300) + "1.0.1.0,1.0.1.255,DEU\n", `line 301: "DEU" is not a country's code of two letters`},
		"ends before it began": {"1.0.0.0,1.0.0.255,DE\n1.0.1.0,1.0.0.255,DE\n", "line 2: the range begins at 1.0.1.0, behind its end 1.0.0.255"},
		"two families":         {"1.0.0.0,1.0.0.255,DE\n1.0.1.0,2001:db8::,DE\n", "line 2: 1.0.1.0 and 2001:db8:: are not of one family"},
		"cut off":              {good + "198.51.100.0/24\n", "line 2: the line has fewer columns"},
		"zone":                 {"fe80::1%eth0,fe80::2,DE\n", `line 1: "fe80::1%eth0" is neither`},
		"zip":                  {"PK\x03\x04xxxx", "this is a zip archive: unpack it"},
		"tar":                  {strings.Repeat("x", 257) + "ustar\x0000", "this is a tar archive: unpack it"},
		"binary":               {"\x00\x01\x02", "neither text nor a whole MaxMind database"},
		"long line":            {"192.0.2.0/24\t" + strings.Repeat("x", 2<<20), "behind line 0: cannot be read on: the line is longer than 1048576 bytes"},
		"long line of CSV":     {good + "198.51.100.0/24,64501,Six," + strings.Repeat("x", 2<<20), "behind line 1: cannot be read on: the line is longer than 1048576 bytes"},
		"quote left open":      {good + "198.51.100.0/24,64501,\"Six\n" + strings.Repeat(good, 1<<16), "behind line 1: cannot be read on: the line is longer than 1048576 bytes, as none about a network is: was a quote left open"},
		"long name":            {good + "198.51.100.0/24,64501," + strings.Repeat("x", 257), "line 2: the name \"xxx"},
		"long scanner":         {"192.0.2.0/24 Census\n198.51.100.0/24 " + strings.Repeat("é", 129), "has 258 bytes, and at most 256 are kept: shorten it"},
		"Latin 1":              {good + "198.51.100.0/24,64501,Telef\xf3nica\n", `line 2: the name "Telef\xf3nica" is not UTF-8: convert it`},
		"NUL in a name":        {strings.Repeat(good, 300) + "198.51.100.0/24,64501,Si\x00x\n", `line 301: the name "Si\x00x" has a NUL byte in it`},
		"NUL at the beginning": {good + "198.51.100.0/24,64501,Si\x00x\n", "line 2: there is a NUL byte in it, as in no text"},
		"UTF-16":               {"1\x009\x002\x00.\x000\x00.\x002\x00.\x000\x00,\x006\x00", "it is text in UTF-16: convert it to UTF-8"},
		"UTF-16, big end":      {"\x001\x009\x002\x00.", "it is text in UTF-16: convert it to UTF-8"},
		"UTF-16 with a mark":   {"\xff\xfe1\x009\x002\x00\xe9\x00", "it is text in UTF-16: convert it to UTF-8"},
	} {
		t.Run(what, func(t *testing.T) {
			path := write(t, "x.csv", c.content)
			f, err := ReadFile(t.Context(), path, Options{})
			require.ErrorIs(t, err, ErrFile)
			assert.Nil(t, f)
			assert.ErrorContains(t, err, c.says)
			assert.ErrorContains(t, err, path)
			assert.NotContains(t, err.Error(), "\n")
		})
	}
	_, err := ReadFile(t.Context(), write(t, "Telef\xf3nica.csv", good), Options{})
	require.ErrorContains(t, err, "its name is not UTF-8")
	_, err = ReadFile(t.Context(), write(t, "x.txt", "192.0.2.0/24\n"), Options{Benign: strings.Repeat("x", 257)})
	require.ErrorContains(t, err, "at most 256 are kept")
	longest := strings.Repeat("x", 256)
	f, err := ReadFile(t.Context(), write(t, "x.csv", "192.0.2.0/24,64500,"+longest+"\n"), Options{})
	require.NoError(t, err)
	require.Equal(t, longest, f.Networks[0].ASName)
	_, err = ReadFile(t.Context(), filepath.Join(t.TempDir(), "none.csv"), Options{})
	require.ErrorContains(t, err, "there is no such file")
	_, err = ReadFile(t.Context(), t.TempDir(), Options{})
	require.ErrorContains(t, err, "this is a directory")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = ReadFile(ctx, write(t, "a.csv", good), Options{})
	require.ErrorIs(t, err, context.Canceled)
}

// Whatever is in a file, reading it ends with networks that are whole, or with a sentence.
func FuzzReadFile(f *testing.F) {
	f.Add("192.0.2.0/24,64500,Cloud\n")
	f.Add("1.0.0.0\t1.0.0.255\t13335\tUS\tX\n")
	f.Add("start_ip,end_ip,country\n::,::1,DE\n")
	f.Add("\x1f\x8b\x08")
	f.Fuzz(func(t *testing.T, content string) {
		got, err := ReadFile(t.Context(), write(t, "f", content), Options{})
		if err != nil {
			require.ErrorIs(t, err, ErrFile)
			return
		}
		require.NotEmpty(t, got.Networks)
		for i := range got.Networks {
			n := &got.Networks[i]
			require.LessOrEqual(t, compare(n.First, n.Last), 0)
			around := compare(n.First, firstIPv4) < 0 && compare(n.Last, lastIPv4) >= 0
			require.True(t, around || event.Addr(n.First).Is4() == event.Addr(n.Last).Is4())
			require.NoError(t, CheckName(n.ASName))
			require.NoError(t, CheckName(n.Benign))
			require.NotEqual(t, Fact{}, n.Fact)
		}
	})
}
