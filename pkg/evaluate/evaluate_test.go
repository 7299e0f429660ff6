package evaluate

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/detect"
	"murmuration/pkg/simulate"
)

func rows(t *testing.T, o Options) []Row {
	t.Helper()
	var out []Row
	require.NoError(t, Run(t.Context(), o, func(r Row) error { out = append(out, r); return nil }))
	return out
}

func TestRun(t *testing.T) {
	last := 0.0
	o := Options{Scenarios: []string{"tiny", "none"}, Seed: 3, Seeds: 2, Scale: 0.1, Baselines: true, Delay: 4,
		Progress: func(_ string, share float64) { assert.GreaterOrEqual(t, share, last); last = share }}
	first := rows(t, o)
	assert.Equal(t, 1.0, last)
	require.Len(t, first, 2*(1+len(Baselines())))
	tiny, none := first[0], first[1+len(Baselines())]
	assert.Equal(t, "tiny", tiny.Scenario)
	assert.Equal(t, Detector, tiny.Method)
	assert.Equal(t, 2, tiny.Campaigns)
	assert.Equal(t, 80, tiny.Sources)
	assert.Greater(t, tiny.F1, 0.97)
	assert.Greater(t, tiny.Jaccard, 0.94)
	assert.Equal(t, 1, tiny.Pieces)
	assert.Positive(t, tiny.PeakHeap)
	assert.Positive(t, tiny.EvidenceLeast)
	assert.Equal(t, 2, tiny.Delay.Found)
	assert.LessOrEqual(t, tiny.Delay.Mean, tiny.Delay.Most)
	assert.Equal(t, 1.0, none.F1)
	assert.Zero(t, none.Campaigns)
	assert.Zero(t, none.False)
	last = 0
	second := rows(t, o)
	for _, all := range [][]Row{first, second} {
		for i := range all {
			all[i].Seconds, all[i].PeakHeap = 0, 0
		}
	}
	assert.Equal(t, first, second, "everything but time and memory follows from the seed")
	o.Seed, o.Seeds, o.Delay, last = 4, 1, 0, 0
	assert.NotEqual(t, first[0].Cells, rows(t, o)[0].Cells)
}

func TestRunStops(t *testing.T) {
	err := Run(t.Context(), Options{Scenarios: []string{"tiny", "nonsense"}, Seeds: 1, Scale: 0.1}, func(Row) error { t.Error("a row before all names were known"); return nil })
	require.ErrorContains(t, err, "nonsense")
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{Scenarios: []string{"tiny", "tiny"}, Seeds: 1, Scale: 0.1}
	n := 0
	err = Run(ctx, o, func(Row) error { n++; cancel(); return nil })
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 1, n, "what was known is handed over")
	assert.ErrorIs(t, Run(t.Context(), o, func(Row) error { return io.ErrShortWrite }), io.ErrShortWrite)
}

func TestUntil(t *testing.T) {
	in := &detect.Input{Start: 1000, End: 2000, Sources: []detect.Source{
		{Behaviour: detect.Behaviour{Packets: 30}, Cells: []detect.Cell{{Target: 1, First: 5, Last: 50}, {Target: 2, First: 10, Last: 10}, {Target: 3, First: 11, Last: 11}}},
		{Behaviour: detect.Behaviour{Packets: 1}, Cells: []detect.Cell{{First: 11, Last: 11}}},
	}}
	out := until(in, 10)
	assert.Equal(t, int64(1011), out.End)
	assert.Equal(t, []detect.Cell{{Target: 1, First: 5, Last: 5}, {Target: 2, First: 10, Last: 10}}, out.Sources[0].Cells)
	assert.Equal(t, uint64(20), out.Sources[0].Behaviour.Packets)
	assert.Empty(t, out.Sources[1].Cells)
	assert.Len(t, in.Sources[0].Cells, 3)
	assert.Equal(t, uint32(50), in.Sources[0].Cells[0].Last, "the input stays as it is")
}

func TestLife(t *testing.T) {
	w := &simulate.World{Input: detect.Input{Sources: []detect.Source{
		{Cells: []detect.Cell{{First: 7, Last: 9}}}, {Cells: []detect.Cell{{First: 1, Last: 100}}}, {Cells: []detect.Cell{{First: 8, Last: 20}}},
	}}}
	first, last := life(w, simulate.Truth{Sources: []int{0, 2}})
	assert.Equal(t, [2]uint32{7, 20}, [2]uint32{first, last})
}

func TestCalibrate(t *testing.T) {
	nulls, err := Calibrate(t.Context(), []string{"none"}, 3, 50, 0.1, nil)
	require.NoError(t, err)
	require.Len(t, nulls, 2)
	for _, s := range nulls {
		assert.Len(t, s.Evidence, 3)
	}
	again, err := Calibrate(t.Context(), []string{"none"}, 3, 50, 0.1, nil)
	require.NoError(t, err)
	assert.Equal(t, nulls, again)
	_, err = Calibrate(t.Context(), []string{"plain"}, 1, 1, 0.1, nil)
	assert.ErrorContains(t, err, "plain holds a campaign")
	var a, b bytes.Buffer
	require.NoError(t, WriteQQ(&a, nulls))
	require.NoError(t, WriteQQ(&b, again))
	assert.Equal(t, a.String(), b.String())
	d := xml.NewDecoder(&a)
	circles := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			circles++
		}
	}
	assert.Equal(t, 2*3+2, circles, "a point for every run and one a method in the legend")
	assert.Error(t, WriteQQ(&b, nil))
}
