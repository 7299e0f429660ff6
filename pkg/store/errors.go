package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// What callers decide on. Every error of this package that has one of these causes wraps it.
var (
	ErrUnavailable = errors.New("ClickHouse cannot be reached")
	ErrAuth        = errors.New("ClickHouse refused the user")
	ErrTLS         = errors.New("no trusted connection to ClickHouse")
	ErrNoDatabase  = errors.New("the database does not exist")
	ErrTooOld      = errors.New("ClickHouse is too old")
	ErrDiskFull    = errors.New("the disk of ClickHouse is full")
)

// Codes of ClickHouse's exceptions, from src/Common/ErrorCodes.cpp.
const (
	codeUnknownTable      = 60
	codeCannotWrite       = 75
	codeUnknownDatabase   = 81
	codeTimeout           = 159
	codeDNS               = 198
	codeTooManyQueries    = 202
	codeSocketTimeout     = 209
	codeNetwork           = 210
	codeNoKeeper          = 225
	codeAborted           = 236
	codeMemoryLimit       = 241
	codeReadOnlyTable     = 242
	codeNotEnoughSpace    = 243
	codeTooManyParts      = 252
	codeUnsatisfiedQuorum = 285
	codeUnknownInsert     = 319
	codeAccess            = 497
	codeAuth              = 516
	codeUnknownUser       = 192
	codeWrongPassword     = 193
	codeRequiredPassword  = 194
	codeKeeper            = 999
	codeStandard          = 1001 // an exception of the C++ library, such as one of its file system
	codeUnexpectedEnd     = 32
	codeNoConfiguration   = 139
	codeNodesUnavailable  = 279
	codeProhibited        = 392
)

// explain wraps err in the sentinel of its cause, with a hint.
func (s *Store) explain(err error) error {
	if err == nil {
		return nil
	}
	where := strings.Join(s.opt.Addr, ", ")
	var ex *clickhouse.Exception
	if errors.As(err, &ex) {
		switch ex.Code {
		case codeAuth, codeUnknownUser, codeWrongPassword, codeRequiredPassword:
			return fmt.Errorf("%w %q at %s: check user and password", ErrAuth, s.opt.User, where)
		case codeUnknownDatabase:
			return fmt.Errorf("%w: %q at %s: create it with `loader migrate`", ErrNoDatabase, s.opt.Database, where)
		case codeNotEnoughSpace:
			return fmt.Errorf("%w: free some room and try again: %w", ErrDiskFull, err)
		case codeNodesUnavailable:
			silent := addressesIn(ex.Message)
			if len(silent) == 0 { // They answer, and are not what they should be: without the database, or of another version.
				return fmt.Errorf("%w: no replica of a shard can be used: %w", ErrUnavailable, err)
			}
			return fmt.Errorf("%w: a shard needs one of its replicas, or, to be inserted to without replication, all: no answer from %s", ErrUnavailable, strings.Join(silent, ", "))
		case codeCannotWrite, codeStandard:
			if strings.Contains(ex.Message, "No space left") {
				return fmt.Errorf("%w: free some room and try again: %w", ErrDiskFull, err)
			}
		}
		return err
	}
	return s.explainNetwork(err, where)
}

var nodeAddress = regexp.MustCompile(`\(([^\s()]+:\d+)[,)]`)

// addressesIn returns the addresses that a message of ClickHouse about several tries to connect names, each once.
func addressesIn(message string) []string {
	var out []string
	for _, m := range nodeAddress.FindAllStringSubmatch(message, -1) {
		if !slices.Contains(out, m[1]) {
			out = append(out, m[1])
		}
	}
	return out
}

func (s *Store) explainNetwork(err error, where string) error {
	var (
		dns       *net.DNSError
		unknownCA x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &dns):
		return fmt.Errorf("%w: the host %q is not known: check the address", ErrUnavailable, dns.Name)
	case errors.As(err, &unknownCA), errors.As(err, &hostname), errors.As(err, &invalid):
		return fmt.Errorf("%w at %s: the certificate is not accepted (server_name or skip_verify may help): %w", ErrTLS, where, err)
	case errors.As(err, &record):
		return fmt.Errorf("%w at %s: the port does not speak TLS: the secure port is usually 9440, or leave secure=true away: %w", ErrTLS, where, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nothing listens at %s: is the server running, and is this its native port (9000)?: %w", ErrUnavailable, where, err)
	case timedOut(err):
		return fmt.Errorf("%w: no answer from %s in time: check address and firewall: %w", ErrUnavailable, where, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return fmt.Errorf("%w: %s closed the connection (a TLS port needs secure=true, an HTTP port is the wrong one): %w", ErrUnavailable, where, err)
	}
	if strings.Contains(err.Error(), "[handshake] unexpected packet") { // The driver has no type for it.
		return fmt.Errorf("%w: what listens at %s does not speak ClickHouse's native protocol (port 9000; 8123 is HTTP): %w", ErrUnavailable, where, err)
	}
	var network net.Error
	if errors.As(err, &network) {
		return fmt.Errorf("%w at %s: %w", ErrUnavailable, where, err)
	}
	return err
}

func timedOut(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, clickhouse.ErrAcquireConnTimeout) || errors.As(err, &network) && network.Timeout()
}

// passing reports whether the same request may succeed later without anybody doing anything.
func passing(err error) bool {
	var ex *clickhouse.Exception
	if errors.As(err, &ex) {
		switch ex.Code {
		case codeTimeout, codeDNS, codeNoKeeper, codeTooManyQueries, codeSocketTimeout, codeNetwork, codeAborted, codeMemoryLimit, codeReadOnlyTable,
			codeTooManyParts, codeUnsatisfiedQuorum, codeUnknownInsert, codeKeeper,
			codeUnexpectedEnd, codeNodesUnavailable:
			return true
		}
		return false
	}
	return errors.Is(err, ErrUnavailable)
}
