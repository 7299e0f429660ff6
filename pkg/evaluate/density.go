package evaluate

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"murmuration/pkg/detect"
)

// conduct is what Density compares: sources of different makes are infinitely far from each other, those of one make
// as far as their numbers.
type conduct struct {
	source int
	make   string
	at     [4]float64 // beginning and end as shares of the window, decades of cells, decades of ports
}

// Density clusters sources by behaviour alone with DBSCAN (Ester, Kriegel, Sander, Xu, "A density-based algorithm for
// discovering clusters", KDD 1996), as darknet studies do: same tool, signature, TTL class, user agent, payload and main
// port; beginning, end, number of cells and number of ports near each other (Euclid, eps 0.1, at least 5 points). It
// never looks at which addresses were touched. Every cluster is a list.
func Density(in *detect.Input) [][]int {
	const eps, least = 0.1, 5
	byMake := map[string][]conduct{}
	for i := range in.Sources {
		if len(in.Sources[i].Cells) > 0 {
			c := conductOf(in, i)
			byMake[c.make] = append(byMake[c.make], c)
		}
	}
	var out [][]int
	for _, points := range byMake {
		slices.SortFunc(points, func(a, b conduct) int { return cmp.Or(cmp.Compare(a.at[0], b.at[0]), cmp.Compare(a.source, b.source)) })
		for _, cluster := range dbscan(points, eps, least) {
			slices.Sort(cluster)
			out = append(out, cluster)
		}
	}
	slices.SortFunc(out, slices.Compare[[]int])
	return out
}

func conductOf(in *detect.Input, source int) conduct {
	s := &in.Sources[source]
	first, last := uint32(math.MaxUint32), uint32(0)
	count := map[port]int{}
	cells := 0
	for _, c := range s.Cells {
		first, last = min(first, c.First), max(last, c.Last)
		if c.Object == 0 {
			count[port{c.Proto, c.Port}]++
			cells++
		}
	}
	var favourite port
	most := 0
	for p, n := range count {
		if n > most || n == most && comparePorts(p, favourite) < 0 {
			favourite, most = p, n
		}
	}
	window := float64(max(1, in.End-in.Start))
	b := s.Behaviour
	return conduct{
		source: source,
		make:   fmt.Sprintf("%q %q %d %q %d %d %d", b.Tool, b.Signature, b.TTLClass, b.UserAgent, b.Payload, favourite.proto, favourite.port),
		at:     [4]float64{float64(first) / window, float64(last) / window, math.Log10(float64(1 + cells)), math.Log10(float64(1 + len(count)))},
	}
}

// dbscan returns the clusters of points that are sorted by their first coordinate. A border point goes to the first
// cluster that reaches it.
func dbscan(points []conduct, eps float64, least int) [][]int {
	near := func(i int) []int {
		var out []int
		lo, _ := slices.BinarySearchFunc(points, points[i].at[0]-eps, func(p conduct, x float64) int { return cmp.Compare(p.at[0], x) })
		for k := lo; k < len(points) && points[k].at[0] <= points[i].at[0]+eps; k++ {
			var d float64
			for j := range points[k].at {
				d += (points[k].at[j] - points[i].at[j]) * (points[k].at[j] - points[i].at[j])
			}
			if d <= eps*eps {
				out = append(out, k)
			}
		}
		return out
	}
	const unseen, noise = 0, -1
	label := make([]int, len(points))
	var clusters [][]int
	for i := range points {
		if label[i] != unseen {
			continue
		}
		queue := near(i)
		if len(queue) < least {
			label[i] = noise
			continue
		}
		clusters = append(clusters, nil)
		id := len(clusters)
		for len(queue) > 0 {
			k := queue[len(queue)-1]
			queue = queue[:len(queue)-1]
			if label[k] > 0 {
				continue
			}
			border := label[k] == noise
			label[k] = id
			clusters[id-1] = append(clusters[id-1], points[k].source)
			if border {
				continue
			}
			if more := near(k); len(more) >= least {
				for _, j := range more {
					if label[j] <= 0 {
						queue = append(queue, j)
					}
				}
			}
		}
	}
	return clusters
}
