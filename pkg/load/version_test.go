package load_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/capture"
	"murmuration/pkg/event"
	"murmuration/pkg/load"
	"murmuration/pkg/store"
)

// A load that an older version began, which told tools otherwise, is gone on with where none of its rows is in, and refused where some may be: sent under
// its token they would be dropped, and as missing ones they would come in beside those of then.
func TestInterruptedByAnOlderVersion(t *testing.T) {
	data, _ := demo(t, 3000)
	r, err := capture.NewReader(io.NopCloser(bytes.NewReader(data)), "a", capture.Options{})
	require.NoError(t, err)
	old := new(event.Batch)
	require.NoError(t, r.Next(old))
	head := r.Mark().Sum
	for err == nil {
		err = r.Next(old)
	}
	require.ErrorIs(t, err, io.EOF)
	r.Flush(old)
	for i := range old.Tool {
		old.Tool[i] = "older"
	}
	end, rows := r.Mark(), uint64(old.Len())
	m := store.Mark{
		Head: head, End: end.Offset, Sum: end.Sum, Token: fmt.Sprintf("%x:0:v1:sensor=test telescopes=", end.Sum), Input: binary.BigEndian.Uint64(head[:8]),
		Options: "sensor=test telescopes=", Records: end.Records, Rows: rows,
	}
	for _, in := range []bool{false, true} {
		st := newStore(t)
		require.NoError(t, st.PutMark(t.Context(), m))
		if in {
			require.NoError(t, st.InsertEvents(t.Context(), old, m.Input, m.Token))
		}
		rep := mustLoad(t, st, load.Options{}, input("a", data))
		there, err := st.EventsOf(t.Context(), m.Input)
		require.NoError(t, err)
		require.Equal(t, rows, there)
		if in {
			require.ErrorIs(t, rep.Err, load.ErrInterruptedElsewhere)
			require.ErrorContains(t, rep.Err, "by a version of loader that decodes otherwise (v1, this one is v2)")
			continue
		}
		require.NoError(t, rep.Err)
		require.Equal(t, rows, rep.Inserted)
		require.Equal(t, rows, mustLoad(t, st, load.Options{}, input("a", data)).Known, "once")
	}
}
