// The text of every float function, written once for one float or for eight of them.
//
// F is a lane type, one per translation unit and in its unnamed namespace (so that code built for one instruction set
// can never be linked into another): ScalarF32 in ir/math.cpp, the vector type in the AVX2 kernels. F supplies
//   F(float)  + - * /  less(a, b) -> mask  select(mask, a, b)  fma_of(a, b, c)  abs_of(x)  copy_sign(magnitude, sign)
//   scale_by_magic(v, magic)      v * 2^n, where magic = n + 0x1.8p23f, rounded once even for denormal results
//   scale_normal(v, magic)        the same where v and the result are normal
//   split_exponent(x, &exponent)  x = m * 2^exponent with m in [sqrt(1/2), sqrt(2)), for normal positive x
// and every operation of F is one correctly rounded float operation; so the same input gives the same bits everywhere.
#pragma once

namespace aoq::math {

// relu, clamp and the like keep NaN: a comparison with NaN is false.
template <typename F>
F at_least(F x, F lo) {
  return select(less(x, lo), lo, x);
}
// The larger one; lo where x is NaN.
template <typename F>
F number_at_least(F x, F lo) {
  return select(less(lo, x), x, lo);
}
template <typename F>
F at_most(F x, F hi) {
  return select(less(hi, x), hi, x);
}
template <typename F>
F clamp_fn(F x, F lo, F hi) {
  return at_most(at_least(x, lo), hi);
}
template <typename F>
F relu_fn(F x) {
  return at_least(x, F(0.0f));
}

// exp(r + n ln2) = 2^n (1 + r + r^2 P(r)), |r| <= ln2 / 2. Below -104 the result rounds to 0, above 88.73 to infinity.
template <typename F>
F exp_fn(F x) {
  x = clamp_fn(x, F(-104.0f), F(90.0f));
  F magic = fma_of(x, F(0x1.715476p+0f), F(0x1.8p23f));
  F n = magic - F(0x1.8p23f);
  F r = fma_of(n, F(-0x1.62e430p-1f), x);
  r = fma_of(n, F(0x1.05c610p-29f), r);
  F p = F(0x1.6a234ep-10f);
  p = fma_of(p, r, F(0x1.123a6cp-7f));
  p = fma_of(p, r, F(0x1.5558f4p-5f));
  p = fma_of(p, r, F(0x1.555490p-3f));
  p = fma_of(p, r, F(0x1.fffffcp-2f));
  p = fma_of(r * r, p, r) + F(1.0f);
  return scale_by_magic(p, magic);
}

// exp for weights of at most 15 bits, of x up to 0: relative error below 2^-18, and exactly 1 for 0. Below -24, and for
// NaN, less than half a step of any weight.
template <typename F>
F exp_weight_fn(F x) {
  x = number_at_least(x, F(-24.0f));
  F magic = fma_of(x, F(0x1.715476p+0f), F(0x1.8p23f));
  F r = fma_of(magic - F(0x1.8p23f), F(-0x1.62e430p-1f), x);
  F p = F(0x1.541482p-5f);
  p = fma_of(p, r, F(0x1.57cf56p-3f));
  p = fma_of(p, r, F(0x1.0003f6p-1f));
  p = fma_of(p, r, F(0x1.fffba6p-1f));
  p = fma_of(p, r, F(1.0f));
  return scale_normal(p, magic);
}

// log of a normal positive x: log(m 2^e) = e ln2 + f - f^2/2 + f^3 P(f), f = m - 1.
template <typename F>
F log_normal_fn(F x) {
  F e(0.0f);
  F f = split_exponent(x, &e) - F(1.0f);
  F p = F(0x1.14573ep-4f);
  p = fma_of(p, f, F(-0x1.de3bf8p-4f));
  p = fma_of(p, f, F(0x1.e6f08cp-4f));
  p = fma_of(p, f, F(-0x1.fc220ep-4f));
  p = fma_of(p, f, F(0x1.233766p-3f));
  p = fma_of(p, f, F(-0x1.555c4ep-3f));
  p = fma_of(p, f, F(0x1.99a4b6p-3f));
  p = fma_of(p, f, F(-0x1.000006p-2f));
  p = fma_of(p, f, F(0x1.555548p-2f));
  F f2 = f * f;
  F low = fma_of(f2 * f, p, e * F(-0x1.05c610p-29f));
  low = fma_of(f2, F(-0.5f), low);
  return fma_of(e, F(0x1.62e430p-1f), f + low);
}

template <typename F>
F log_fn(F x) {
  auto is_small = less(x, F(0x1p-126f));
  F scaled = select(is_small, x * F(0x1p24f), x);
  F y = log_normal_fn(scaled) - select(is_small, F(0x1.0a2b24p+4f), F(0.0f));
  y = select(less(F(0x1.fffffep127f), x), x, y);
  F nan_or_x = (x - x) / (x - x);
  y = select(less(F(0.0f), x), y, nan_or_x);
  F minus_infinity = F(-1.0f) / abs_of(x);
  return select(equal(x, F(0.0f)), minus_infinity, y);
}

// log(1 + u) for 0 <= u <= 1; the second term puts back what the addition rounded off.
template <typename F>
F log1p_unit_fn(F u) {
  F y = F(1.0f) + u;
  return log_normal_fn(y) + (u - (y - F(1.0f))) / y;
}

template <typename F>
F softplus_fn(F x) {
  F tail = log1p_unit_fn(exp_fn(F(0.0f) - abs_of(x)));
  F y = at_least(x, F(0.0f)) + tail;
  return select(equal(x, x), y, x);
}

template <typename F>
F sigmoid_fn(F x) {
  F e = exp_fn(F(0.0f) - abs_of(x));
  F numerator = select(less(x, F(0.0f)), e, F(1.0f));
  return numerator / (F(1.0f) + e);
}

// Odd polynomial below 0.625, 1 - 2 / (exp(2|x|) + 1) above.
template <typename F>
F tanh_fn(F x) {
  F a = abs_of(x);
  F s = x * x;
  F p = F(-0x1.75624cp-8f);
  p = fma_of(p, s, F(0x1.520b30p-6f));
  p = fma_of(p, s, F(-0x1.b83856p-5f));
  p = fma_of(p, s, F(0x1.11070ap-3f));
  p = fma_of(p, s, F(-0x1.555532p-2f));
  F near = fma_of(x * s, p, x);
  F far = F(1.0f) - F(2.0f) / (exp_fn(a + a) + F(1.0f));
  return select(less(a, F(0.625f)), near, copy_sign(far, x));
}

// Odd polynomial below 0.925, 1 - exp(-Q(|x|)) above; Q is a fit of -log(erfc).
template <typename F>
F erf_fn(F x) {
  F s = x * x;
  F p = F(-0x1.38277cp-11f);
  p = fma_of(p, s, F(0x1.46c2b8p-8f));
  p = fma_of(p, s, F(-0x1.b676e6p-6f));
  p = fma_of(p, s, F(0x1.ce1906p-4f));
  p = fma_of(p, s, F(-0x1.8126dcp-2f));
  p = fma_of(p, s, F(0x1.06eba6p-3f));
  F near = fma_of(p, x, x);
  F a = at_most(abs_of(x), F(4.0f));
  F q = F(0x1.78dd98p-17f);
  q = fma_of(q, a, F(-0x1.527c6cp-12f));
  q = fma_of(q, a, F(0x1.dd6cdap-9f));
  q = fma_of(q, a, F(-0x1.85515ep-6f));
  q = fma_of(q, a, F(0x1.b325740p-4f));
  q = fma_of(q, a, F(0x1.45328ep-1f));
  q = fma_of(q, a, F(0x1.0778dcp-3f));
  q = fma_of(q, a, a);
  F far = F(1.0f) - exp_fn(F(0.0f) - q);
  return select(less(a, F(0.925f)), near, copy_sign(far, x));
}

// The limits below make -infinity give -0 instead of NaN and change nothing else.
template <typename F>
F gelu_erf_fn(F x) {
  x = at_least(x, F(-20.0f));
  return (F(0.5f) * x) * (F(1.0f) + erf_fn(x * F(0x1.6a09e6p-1f)));
}

template <typename F>
F gelu_tanh_fn(F x) {
  x = at_least(x, F(-20.0f));
  F inner = F(0x1.988454p-1f) * (x + F(0.044715f) * (x * x * x));
  return (F(0.5f) * x) * (F(1.0f) + tanh_fn(inner));
}

template <typename F>
F silu_fn(F x) {
  x = at_least(x, F(-120.0f));
  return x * sigmoid_fn(x);
}

template <typename F>
F hardswish_fn(F x) {
  x = at_least(x, F(-3.0f));
  return (x * clamp_fn(x + F(3.0f), F(0.0f), F(6.0f))) / F(6.0f);
}

template <typename F>
F hardsigmoid_fn(F x, F alpha, F beta) {
  return clamp_fn(alpha * x + beta, F(0.0f), F(1.0f));
}

}  // namespace aoq::math
