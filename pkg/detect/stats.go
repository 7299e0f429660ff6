package detect

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// chernoffBelow bounds -log10 P(X ≤ observed) from below for X ~ Poisson(expected), by Chernoff's
// inequality: (E - O + O·ln(O/E)) / ln 10. It also holds for sums of independent indicators with
// different probabilities, which a Poisson tail does not promise. Neither argument need be whole.
func chernoffBelow(expected, observed float64) float64 {
	if expected <= 0 || observed >= expected {
		return 0
	}
	if observed <= 0 {
		return expected / math.Ln10
	}
	return (expected - observed + observed*math.Log(observed/expected)) / math.Ln10
}

// scaledBelow is chernoffBelow for a sum whose variance is not its mean: a compound Poisson variable
// of this mean and variance is s times a Poisson variable of mean mean/s with s = variance/mean. At
// observed = 0 it gives mean²/variance/ln 10, which never exceeds the truth for compound Poisson
// variables (Cauchy-Schwarz on the size of one coincidence).
func scaledBelow(mean, variance, observed float64) float64 {
	if mean <= 0 {
		return 0
	}
	s := math.Max(1, variance/mean)
	return chernoffBelow(mean/s, observed/s)
}

// scaledAbove bounds -log10 P(X ≥ observed) from below in the same way for the other tail.
func scaledAbove(mean, variance, observed float64) float64 {
	if mean <= 0 || observed <= mean {
		return 0
	}
	s := math.Max(1, variance/mean)
	return (mean - observed + observed*math.Log(observed/mean)) / s / math.Ln10
}

// stevens is -log10 of the probability that m arcs of the given total length, dropped at random on a circle of n
// addresses, do not meet. Stevens (Annals of Eugenics 9, 1939) gives (1 - total/n)^(m-1) for a circle without grain; on n
// places it is the product over i = 1 … m-1 of (n - total + i)/n, which stays finite where the arcs fill the circle.
func stevens(m int, total, n float64) float64 {
	if m < 2 || n <= 0 {
		return 0
	}
	if total > n {
		return math.Inf(1)
	}
	a, _ := math.Lgamma(n - total + float64(m))
	b, _ := math.Lgamma(n - total + 1)
	return (float64(m-1)*math.Log(n) - a + b) / math.Ln10
}

// binomialAbove is -log10 P(X ≥ k) for X ~ Binomial(n, p). Where the tail underflows it is Chernoff's bound.
func binomialAbove(k, n int, p float64) float64 {
	if k <= 0 || p >= 1 || n <= 0 {
		return 0
	}
	if k > n || p <= 0 {
		return math.Inf(1)
	}
	if tail := mathext.RegIncBeta(float64(k), float64(n-k+1), p); tail > 1e-290 {
		return -math.Log10(tail)
	}
	f := float64(k) / float64(n)
	kl := f * math.Log(f/p)
	if f < 1 {
		kl += (1 - f) * math.Log((1-f)/(1-p))
	}
	return float64(n) * kl / math.Ln10
}

// gumbelAbove is -log10 P(X ≥ x) where X follows Gumbel's law of maxima with the mean of the values and the upper 95 %
// bound of their standard deviation. Its tail is exponential, which is heavier than that of any statistic used here.
func gumbelAbove(values []float64, x float64) float64 {
	mean, variance := moments(values)
	beta := math.Sqrt(6*variance) / math.Pi
	if beta <= 0 {
		beta = 1e-9
	}
	const euler = 0.5772156649015329
	z := (x - (mean - euler*beta)) / beta
	if z > 30 {
		return z / math.Ln10
	}
	return -math.Log10(-math.Expm1(-math.Exp(-z)))
}

// moments returns mean and variance of the values, the variance raised to the upper end of its one-sided 95 %
// confidence interval by Wilson and Hilferty's approximation of the chi-square quantile.
func moments(values []float64) (mean, variance float64) {
	for _, v := range values {
		mean += v
	}
	mean /= float64(len(values))
	for _, v := range values {
		variance += (v - mean) * (v - mean)
	}
	k := float64(len(values) - 1)
	q := 1 - 2/(9*k) - 1.645*math.Sqrt(2/(9*k))
	return mean, variance / k / (q * q * q)
}

// clamp returns x within [lo, hi].
func clamp(x, lo, hi float64) float64 { return math.Min(hi, math.Max(lo, x)) }
