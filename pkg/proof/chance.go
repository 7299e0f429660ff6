package proof

import "math"

// log10Factorial is log10(n!).
func log10Factorial(n float64) float64 {
	v, _ := math.Lgamma(n + 1)
	return v / math.Ln10
}

// log10Choose is log10 of the binomial coefficient.
func log10Choose(n, k int) float64 {
	return log10Factorial(float64(n)) - log10Factorial(float64(k)) - log10Factorial(float64(n-k))
}

// hits is -log10 of a bound of the chance that at least k of n probes obey a rule that one obeys with probability
// 10^-digits: the union over which ones do.
func hits(k, n int, digits float64) float64 {
	if k == 0 {
		return 0
	}
	return math.Max(0, float64(k)*digits-log10Choose(n, k))
}

// arc is -log10 of the chance that n independent places on a circle lie within some arc of the given share of it: n share^(n-1),
// which is exact up to half of the circle (Stevens 1939) and a bound beyond.
func arc(n int, share float64) float64 {
	if n < 2 || share >= 1 {
		return 0
	}
	return math.Max(0, -math.Log10(float64(n))-float64(n-1)*math.Log10(share))
}

// turns is -log10 of a bound of the chance that n independent places on a circle, visited in random order and always forwards,
// need at most so many turns. The number of turns is that of descents of a random permutation of n-1 things and one
// more, which is distributed like the whole part of a sum of n-1 uniform variables and one more (Tanny 1973), and P(sum of m uniforms ≤ d)
// is at most d^m/m!.
func turns(n, d int) float64 {
	m := float64(n - 1)
	if n < 3 || float64(d) >= m/2 {
		return 0
	}
	return math.Max(0, log10Factorial(m)-m*math.Log10(float64(max(1, d))))
}
