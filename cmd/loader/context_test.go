package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestContext(t *testing.T) {
	dsn, dir := captures(t), t.TempDir()
	campaign := strings.Split(strings.Split(works(t, "campaigns", "--dsn", dsn, "--format", "csv"), "\n")[1], ",")[0]
	require.Contains(t, works(t, "campaigns", campaign, "--dsn", dsn), " networks (/24 or /48), median 1 and at most ")
	require.NotContains(t, works(t, "campaigns", campaign, "--dsn", dsn), "autonomous systems")

	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	asns := file("asns.csv", "network,asn,as_name\n100.64.0.0/10,64500,Shared\n")
	countries := file("countries.tsv", "100.64.0.0\t100.127.255.255\tDE\n")
	scanners := file("census.txt", "100.64.0.0/10\n")
	require.Equal(t, "asns.csv: asn of 1 network\ncountries.tsv: country of 1 network\ncensus.txt: benign of 1 network\n",
		works(t, "context", "add", asns, countries, scanners, "--dsn", dsn))
	require.Contains(t, works(t, "context", "list", "--dsn", dsn, "--format", "csv"), "asns.csv,asn,csv,1,")
	for _, out := range []string{works(t, "campaigns", campaign, "--dsn", dsn), works(t, "detect", "--explain", "--dsn", dsn)} {
		require.Regexp(t, `Its \d+ sources are in \d+ networks .*; \d+ of them in 1 known autonomous systems, \d+ in AS64500 Shared; \d+ of them in 1 known countries, \d+ in DE; \d+ of them \(100 %\) are known benign scanners: census\.`, out)
	}
	require.NotContains(t, works(t, "detect", "--explain", "--dsn", dsn, "--format", "csv"), "Shared")
	require.Contains(t, works(t, "query", "top_asns", "hours=24000", "--dsn", dsn, "--format", "csv"), "64500,Shared,")

	r := loader(t, "", "context", "add", file("bad.csv", "100.64.0.0/10,64500,Shared\n100.64.0.0/10,AS,x\n"), "--dsn", dsn)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, `bad.csv: line 2: "AS" is not the number of an autonomous system`)
	r = loader(t, "", "context", "add", asns, "--kind", "country", "--dsn", dsn)
	require.Contains(t, r.stderr, "it tells asn of networks, not country")
	r = loader(t, "", "context", "remove", "asn.csv", "--dsn", dsn)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, `did you mean "asns.csv"?`)
	works(t, "context", "remove", "asns.csv", "countries.tsv", "census.txt", "--dsn", dsn)
	require.NotContains(t, works(t, "campaigns", campaign, "--dsn", dsn), "AS64500")
	r = loader(t, "", "context", "add", file("latin.csv", "100.64.0.0/10,64500,Telef\xf3nica\n"), "--dsn", dsn)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, `latin.csv: line 1: the name "Telef\xf3nica" is not UTF-8`)
	require.Equal(t, "all.csv: asn of 2 networks\n", works(t, "context", "add", file("all.csv", "network,asn\n::/0,64500\n2001:db8::/32,64501\n"), "--dsn", dsn))
	r = loader(t, "", "context", "add", scanners, "--name", strings.Repeat("x", 257), "--dsn", dsn)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "--name: the name")
	for _, args := range [][]string{{"context", "list", "x"}, {"context", "add"}, {"context", "remove"}, {"context", "forget"}, {"context", "add", asns, "--kind", "as"}} {
		require.Equal(t, exitUsage, loader(t, "", append(args, "--dsn", dsn)...).code, "%v", args)
	}
}
