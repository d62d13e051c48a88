"""Elementary functions on LLVM scalars and vectors, built with the IR builder.

A function takes (builder, x), x of type float, double or a vector of them of any width, and returns the same
type. Every lane gets the same bits as the scalar. Each is a range reduction and a minimax polynomial (Remez
exchange on the relative error of the whole function; the coefficients rounded one after the other, lowest
first, with the later ones fitted again after each). No tables, no branches but for the rare arguments that go
to the C library.

Largest errors found against long double, in ulp, over 10⁷ arguments each (erf: 10⁶); 0.09 more at most
without an FMA instruction:

        exp  expm1   log  log1p   sin   cos  tanh  arctan   erf
float   1.64   1.53  0.88   1.46  1.51  1.53  1.16    1.18  1.20
double  1.59   1.73  0.85   1.29  1.51  1.49  1.16    1.36  1.45
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numgraph.compiler.llvm.vectorvalues import Value, call_intrinsic, float_bits, libm, mend

__all__ = ["FUNCTIONS", "arctan2", "call_intrinsic", "floor_divide", "fmod", "power", "remainder"]

MANTISSA = {32: 23, 64: 52}
BIAS = {32: 127, 64: 1023}
SMALLEST_NORMAL = {32: 2.0**-126, 64: 2.0**-1022}
# Adding this number rounds to an integer, which then stands in the sum's low bits.
ROUNDER = {32: 1.5 * 2.0**23, 64: 1.5 * 2.0**52}
INV_LN2 = 1.4426950408889634
LN_2 = 0.6931471805599453
# ln 2 = high + low, high short enough for n · high to be exact.
LN2 = {32: (0.693145751953125, 1.428606765330187e-06), 64: (0.6931471805601177, -1.7239444525614835e-13)}
# 1/ln 2 and 1/ln 10 as high + low, and log₁₀ 2 with high short enough for n · high to be exact.
LOG2_E = {32: (1.4426950216293335, 1.925963033500011e-08), 64: (1.4426950408889634, 2.0355273740931033e-17)}
LOG10_E = {32: (0.4342944920063019, -1.0103049952192578e-08), 64: (0.4342944819032518, 1.098319650216765e-17)}
LOG10_2 = {32: (0.301025390625, 4.605039066518657e-06), 64: (0.3010299956640665, -8.532344317057107e-14)}
INFINITY = float("inf")

# (eʳ − 1 − r)/r² on |r| ≤ ln 2, relative to eʳ: 2^-26.0 and 2^-56.1.
EXP = {
    32: (0.5000003576278687, 0.1666661500930786, 0.041661158204078674, 0.00833599641919136, 0.001410661032423377, 0.00019634208001662046),
    64: (
        0.4999999999999993, 0.16666666666666993, 0.04166666666670254, 0.0083333333332658, 0.0013888888883420362, 0.0001984126989077094,
        2.4801590948172258e-05, 2.755730306584521e-06, 2.755612570471493e-07, 2.5054355039630115e-08, 2.106528582775115e-09,
        1.599602110636859e-10,
    ),
}  # fmt: skip
# The same on |r| ≤ ln 2 / 2, relative to eʳ − 1: 2^-26.1 and 2^-55.5.
EXPM1 = {
    32: (0.4999999701976776, 0.16666537523269653, 0.04166773334145546, 0.008367332629859447, 0.0013838533777743578),
    64: (
        0.5000000000000006, 0.16666666666666632, 0.041666666666575085, 0.00833333333336879, 0.001388888893190356, 0.00019841269754842446,
        2.480150496013124e-05, 2.7557381030956863e-06, 2.7626146441724714e-07, 2.5060930064666445e-08,
    ),
}  # fmt: skip
# The same on 0 ≤ r ≤ ln 2, relative to eʳ − 1: 2^-31.5 and 2^-61.0.
TANH = {
    32: (0.4999999701976776, 0.16666750609874725, 0.04165886715054512, 0.008366351947188377, 0.0013191202888265252, 0.0002689230313990265),
    64: (
        0.5000000000000001, 0.1666666666666575, 0.04166666666692892, 0.008333333329604493, 0.0013888889196006942, 0.00019841253983511297,
        2.480212190032507e-05, 2.7545385502000183e-06, 2.7731765215730567e-07, 2.3456487420548895e-08, 2.9013995709705214e-09,
    ),
}  # fmt: skip
# 32: (ln(1 + f) − f + f²/2)/f³ in f; 64: (2 artanh s − 2s)/s³ in s², s = f/(2 + f); √½ ≤ 1 + f ≤ √2: 2^-27.4
# and 2^-59.5.
LOG = {
    32: (
        0.3333333134651184, -0.250008225440979, 0.20001259446144104, -0.16623345017433167, 0.14201071858406067, -0.1315954625606537,
        0.1276571899652481, -0.07641173154115677,
    ),
    64: (
        0.6666666666666734, 0.3999999999941705, 0.28571428741890514, 0.22222198621905256, 0.1818356188870996, 0.15314110885392235,
        0.14795363544473872,
    ),
}  # fmt: skip
# (sin r − r)/r³ and (cos r − 1 + r²/2)/r⁴ in r², |r| ≤ π/4: 2^-27.9, 2^-33.0; 2^-57.9, 2^-63.9.
SIN = {
    32: (-0.16666655242443085, 0.008332187309861183, -0.00019517895998433232),
    64: (
        -0.1666666666666663, 0.00833333333332184, -0.00019841269829358525, 2.755731353851336e-06, -2.5050734389191537e-08,
        1.589543328936782e-10,
    ),
}  # fmt: skip
COS = {
    32: (0.04166664555668831, -0.0013887309469282627, 2.4432327336398885e-05),
    64: (
        0.041666666666666595, -0.0013888888888873307, 2.4801587288965227e-05, -2.755731420307727e-07, 2.0875703139069113e-09,
        -1.1358616968047627e-11,
    ),
}  # fmt: skip
# π/2 in doubles, short enough for n · (all parts but the last) to be exact up to |x| ≤ bound: for float (n <
# 2²⁴) and double (n < 2¹⁶).
HALF_PI = {
    32: (1.570796325802803, 9.920935796805404e-10),
    64: (1.5707963267923333, 2.5633441515839558e-12, 1.0562999066987428e-23),
}
SIN_BOUND = {32: 1.6e7, 64: 1e5}
# (arctan z − z)/z³ in z², |z| ≤ 1 and |z| ≤ ½: 2^-28.5 and 2^-57.8.
ARCTAN = {
    32: (
        -0.33333298563957214, 0.1999852955341339, -0.14264015853405, 0.10950881242752075, -0.08399314433336258, 0.057881712913513184,
        -0.03109758161008358, 0.010869203135371208, -0.0017829920398071408,
    ),
    64: (
        -0.3333333333333298, 0.19999999999903104, -0.1428571427638489, 0.11111110659574895, -0.09090896242798409, 0.07692073876948845,
        -0.06663810208445506, 0.05858295896201051, -0.05121991402211672, 0.04186461606152228, -0.027434231194430378, 0.010116324536617847,
    ),
}  # fmt: skip
# erf(x)/x − 1 in x², |x| ≤ 1: 2^-29.4 and 2^-56.0.
ERF = {
    32: (
        0.12837916612625122, -0.3761262595653534, 0.11283578723669052, -0.026853347197175026, 0.005187162198126316, -0.0007997853099368513,
        7.806903886375949e-05,
    ),
    64: (
        0.12837916709551256, -0.37612638903183343, 0.1128379167093695, -0.026866170641959147, 0.005223977596736034, -0.0008548325485010739,
        0.00012055280497047917, -1.4924465650059139e-05, 1.6444150692647592e-06, -1.6183991876334113e-07, 1.3616700412543565e-08,
        -7.607809214548464e-10,
    ),
}  # fmt: skip
# ln erfc(x) on [1, 4] and [1, 6]: with errors of 2^-35.4 and 2^-54.9 in erfc.
LOG_ERFC = {
    32: (
        0.00018803610873874277, -1.1295783519744873, -0.6332201361656189, -0.10841821134090424, 0.025207960978150368,
        -0.004204428754746914, 0.00044130493188276887, -2.168381070077885e-05,
    ),
    64: (
        -1.0817645852337113e-06, -1.1283685491639532, -0.6366682549712461, -0.10263592917585808, 0.01886237832978997,
        0.0005878871863932711, -0.002102437037487989, 0.0009226378460388768, -0.00023218704219508992, 2.8682399016470633e-05,
        3.375078597065098e-06, -2.610658340191627e-06, 6.753709085780325e-07, -1.0643294361422973e-07, 1.0726285032490426e-08,
        -6.410714468195716e-10, 1.740330987638849e-11,
    ),
}  # fmt: skip


def _exp(x: Value) -> Value:
    """eˣ = eʳ · 2ᵐ · 2ᵐ, r = x − 2m ln 2.

    Even powers cost one more coefficient and save the integer work of splitting 2ⁿ: 2ᵐ is always a normal
    number, so subnormal results are rounded once and overflow comes by itself.
    """
    w = x.width
    x = x.clamp(-104.0, 89.0) if w == 32 else x.clamp(-746.0, 710.0)
    shifted = x.fma(INV_LN2 / 2, ROUNDER[w] + BIAS[w])
    m = shifted - (ROUNDER[w] + BIAS[w])
    scale = (shifted.bits() << MANTISSA[w]).floats()
    high, low = LN2[w]
    r = m.fma(-2 * low, m.fma(-2 * high, x))
    square = r * r
    p = square.fma(r.polynomial(EXP[w], square), r) + 1.0
    return p * scale * scale


def _exp2(x: Value) -> Value:
    """2ˣ = eʳ · 2ᵐ · 2ⁿ⁻ᵐ, r = (x − n) ln 2, |r| ≤ ln 2 / 2: exact at integers, and rounded once where
    subnormal.
    """
    w = x.width
    x = x.clamp(-151.0, 129.0) if w == 32 else x.clamp(-1077.0, 1025.0)
    n = (x + ROUNDER[w]) - ROUNDER[w]
    r = (x - n) * LN_2
    half = n.fma(0.5, ROUNDER[w] + BIAS[w])
    other = n - (half - (ROUNDER[w] + BIAS[w])) + (ROUNDER[w] + BIAS[w])
    p = (r * r).fma(r.polynomial(EXP[w]), r) + 1.0
    return p * (half.bits() << MANTISSA[w]).floats() * (other.bits() << MANTISSA[w]).floats()


def _expm1(x: Value) -> Value:
    """eˣ − 1 = 2(2ⁿ⁻¹ (eʳ − 1) + (2ⁿ⁻¹ − ½)), r = x − n ln 2, |r| ≤ ln 2 / 2."""
    w = x.width
    clamped = x.clamp(-18.0, 89.0) if w == 32 else x.clamp(-38.0, 710.0)
    shifted = clamped.fma(INV_LN2, ROUNDER[w] + BIAS[w] - 1)
    n = shifted - (ROUNDER[w] + BIAS[w] - 1)
    scale = (shifted.bits() << MANTISSA[w]).floats()
    high, low = LN2[w]
    first = n.fma(-high, clamped)
    r = n.fma(-low, first)
    lost = n.fma(-low, first - r)
    q = (r * r).fma(r.polynomial(EXPM1[w]), lost) + r
    y = q.fma(scale, scale - 0.5) * 2.0
    return (x.intrinsic("fabs") < 2.0**-60).where(x, y)


def _tanh(x: Value) -> Value:
    """tanh |x| = (q + (1 − s))/(q + (1 + s)), q = eʳ − 1, s = 2⁻ⁿ, r = 2|x| − n ln 2, n rounded down.

    What is divided is the difference to a number close by, so that the errors of the quotient hardly count:
    (1 − s) + s (q − (1 − s))/(q + (1 + s)), and |x| + (q − r − |x| q)/(q + 2) where n = 0.
    """
    w = x.width
    a = x.intrinsic("fabs")
    limit = 10.0 if w == 32 else 20.0
    a = (a > limit).where(limit, a)
    # 2⁻ⁿ straight from the low bits; 0.498 and not ½ keeps a tie at x = 0 from rounding up.
    shifted = (ROUNDER[w] + BIAS[w]) - a.fma(2 * INV_LN2, -0.498)
    n = (ROUNDER[w] + BIAS[w]) - shifted
    scale = (shifted.bits() << MANTISSA[w]).floats()
    high, low = LN2[w]
    r = n.fma(-low, n.fma(-high, a + a))
    curved = r * r * r.polynomial(TANH[w])
    q = curved + r
    small = scale.equals(1.0)
    near = small.where(a, 1.0 - scale)
    top = small.where(curved - a * q, scale * (q - (1.0 - scale)))
    return (near + top / (q + (1.0 + scale))).intrinsic("copysign", x)


def _split(x: Value, shift: Value | float = 0.0) -> tuple[Value, Value, Value]:
    """x = 2ⁿ · m for normal x > 0, √½ ≤ m < √2: n − shift as a float, m, and n + bias as an integer."""
    w = x.width
    root, one = float_bits(0.5**0.5, w), float_bits(1.0, w)
    moved = x.bits() + (one - root)
    biased = moved >> MANTISSA[w]
    magnitude = 2.0 ** MANTISSA[w]
    n = (biased | float_bits(magnitude, w)).floats() - (
        shift + (magnitude + BIAS[w]) if isinstance(shift, Value) else magnitude + BIAS[w]
    )
    m = ((moved & ((1 << MANTISSA[w]) - 1)) + root).floats()
    return n, m, biased


def _log_near_one(f: Value, n: Value) -> Value:
    """n ln 2 + ln(1 + f), √½ ≤ 1 + f ≤ √2."""
    w = f.width
    high, low = LN2[w]
    square = f * f
    if w == 32:
        tail = square.fma(f.polynomial(LOG[w]).fma(f, -0.5), n * low)
    else:
        s = f / (f + 2.0)
        z = s * s
        half = square * 0.5
        tail = s.fma(half + z * z.polynomial(LOG[w]), n * low) - half
    return n.fma(high, f + tail)


def _logarithm(near_one: Callable[[Value, Value], Value]) -> Callable[[Value], Value]:
    """The logarithm of x = 2ⁿ m, √½ ≤ m < √2, from near_one(m − 1, n)."""

    def function(x: Value) -> Value:
        w = x.width
        tiny = x < SMALLEST_NORMAL[w]
        n, m, _ = _split(tiny.where(x * 2.0**54, x), tiny.where(x.constant(54.0), x.constant(0.0)))
        y = near_one(m - 1.0, n)
        y = (x < INFINITY).where(y, x)
        y = (x < 0.0).where(float("nan"), y)
        return x.equals(0.0).where(-INFINITY, y)

    return function


def _log2_near_one(f: Value, n: Value) -> Value:
    """n + log₂(1 + f): exact at powers of 2."""
    high, low = LOG2_E[f.width]
    y = _log_near_one(f, n.constant(0.0))
    return n + y.fma(high, y * low)


def _log10_near_one(f: Value, n: Value) -> Value:
    """n log₁₀ 2 + log₁₀(1 + f): the error of all but the last sum is less than half a unit of that in its
    last place, so that powers of 10 come out exactly."""
    high, low = LOG10_E[f.width]
    y = _log_near_one(f, n.constant(0.0))
    two, rest = LOG10_2[f.width]
    return n.fma(two, y.fma(high, n.fma(rest, y * low)))


def _log1p(x: Value) -> Value:
    """ln(1 + x) = n ln 2 + ln(1 + f), f = (m − 1) + 2⁻ⁿ e, where u = 1 + x = 2ⁿ m is rounded and e = (1 + x)
    − u exactly (two-sum).
    """
    w = x.width
    u = x + 1.0
    part = u - 1.0
    rest = (1.0 - (u - part)) + (x - part)
    n, m, biased = _split(u)
    inverse = ((biased.constant(2 * BIAS[w]) - biased) << MANTISSA[w]).floats()
    correction = (x > 2.0**60).where(0.0, rest * inverse)
    y = _log_near_one((m - 1.0) + correction, n)
    y = (x < INFINITY).where(y, x)
    y = (x < -1.0).where(float("nan"), y)
    y = x.equals(-1.0).where(-INFINITY, y)
    return x.equals(0.0).where(x, y)


def _sin_cos(name: str, quarter: int) -> Callable[[Value], Value]:
    """sin(x + quarter · π/2) = ± sin r or ± cos r, r = x − n π/2; |x| > SIN_BOUND and ±inf go to the C
    library.
    """

    def function(x: Value) -> Value:
        w = x.width
        wide = x.doubled() if w == 32 else x
        shifted = wide.fma(0.6366197723675814, ROUNDER[64])
        n = shifted - ROUNDER[64]
        r = wide
        for part in HALF_PI[w]:
            r = n.fma(-part, r)
        quadrant = shifted.bits()
        if w == 32:
            r, quadrant = r.halved(), quadrant.halved()
        quadrant = quadrant + quarter
        z = r * r
        sine = (r * z).fma(z.polynomial(SIN[w]), r)
        cosine = z.fma(z.fma(z.polynomial(COS[w]), -0.5), 1.0)
        y = quadrant.is_set(0).where(cosine, sine)
        y = (y.bits() ^ ((quadrant >> 1) << (w - 1))).floats()
        y = x.equals(0.0).where(x, y) if quarter == 0 else y
        return mend(y, x.intrinsic("fabs") > SIN_BOUND[w], lambda: libm(name, x))

    return function


def _arctan(x: Value) -> Value:
    """arctan |x| = base + arctan z.

    float: z = −1/|x| and base π/2 above 1. double: the same above 2, and z = (|x| − 1)/(|x| + 1) and π/4 on
    (½, 2]."""
    w = x.width
    a = x.intrinsic("fabs")
    large = a > (1.0 if w == 32 else 2.0)
    top, bottom = large.where(-1.0, a), large.where(a, a.constant(1.0))
    base = large.where(a.constant(1.5707963705062866 if w == 32 else 1.5707963267948966), a.constant(0.0))
    rest = large.where(
        a.constant(-4.371138828673793e-08 if w == 32 else 6.123233995736766e-17), a.constant(0.0)
    )
    if w == 64:
        middle = (a > 0.5) & ~large
        top, bottom = middle.where(a - 1.0, top), middle.where(a + 1.0, bottom)
        base, rest = middle.where(0.7853981633974483, base), middle.where(3.061616997868383e-17, rest)
    z = top / bottom
    square = z * z
    return (base + (z + (z * square).fma(square.polynomial(ARCTAN[w]), rest))).intrinsic("copysign", x)


def _erf(x: Value) -> Value:
    """x + x P(x²) for |x| < 1, else 1 − exp(Q(|x|)) with Q ≈ ln erfc."""
    w = x.width
    a = x.intrinsic("fabs")
    limit = 4.0 if w == 32 else 6.0
    clamped = (a > limit).where(limit, a)
    large = 1.0 - _exp(clamped.polynomial(LOG_ERFC[w]))
    small = (a * a).polynomial(ERF[w]).fma(a, a)
    return (a < 1.0).where(small, large).intrinsic("copysign", x)


def power(builder: Any, x: Any, p: Any) -> Any:
    """xᵖ: float as exp(p ln x) in double, for x > 0 and finite operands; everything else, and double, by the
    C library's pow.
    """
    base, exponent = Value(builder, x), Value(builder, p)
    if base.width == 64:
        return libm("pow", base, exponent).value
    y = _exp(exponent.doubled() * _logarithm(_log_near_one)(base.doubled())).halved()
    plain = (base > 0.0) & (base < INFINITY) & (exponent.intrinsic("fabs") < INFINITY)
    return mend(y, ~plain, lambda: libm("pow", base, exponent)).value


def fmod(builder: Any, x: Any, p: Any) -> Any:
    """x − q p, q = x/p rounded towards zero: exact. Of |x|, |p| < ∞ with q that a float holds by one
    multiply-add, which is exact and at most one |p| too small, for x/p may be rounded up to the next integer;
    all others by the C library's fmod."""
    a, b = Value(builder, x), Value(builder, p)
    top, bottom = a.intrinsic("fabs"), b.intrinsic("fabs")
    q = (top / bottom).intrinsic("floor")
    rest = (q.constant(0.0) - q).intrinsic("fma", bottom, top)
    rest = (rest < 0.0).where(rest + bottom, rest).intrinsic("copysign", a)
    plain = (q < 2.0 ** MANTISSA[a.width]) & (bottom < INFINITY)
    return mend(rest, ~plain, lambda: libm("fmod", a, b)).value


def arctan2(builder: Any, y: Any, x: Any) -> Any:
    """The angle of the point (x, y), by the C library."""
    return libm("atan2", Value(builder, y), Value(builder, x)).value


Fmod = Callable[[Any, Any, Any], Any]


def _rest(builder: Any, x: Any, p: Any, fmod: Fmod) -> tuple[Value, Value, Value, Value]:
    """x, p, fmod(x, p), and the mask of where that has another sign than p."""
    a, b, rest = Value(builder, x), Value(builder, p), Value(builder, fmod(builder, x, p))
    apart = ((b < 0.0) & (rest > 0.0)) | ((b > 0.0) & (rest < 0.0))
    return a, b, rest, apart


def remainder(builder: Any, x: Any, p: Any, fmod: Fmod) -> Any:
    """fmod, brought to the sign of p, which a zero has too."""
    _, b, rest, apart = _rest(builder, x, p, fmod)
    zero = (b < 0.0).where(-0.0, b.constant(0.0))
    return rest.equals(0.0).where(zero, apart.where(rest + b, rest)).value


def floor_divide(builder: Any, x: Any, p: Any, fmod: Fmod, floor: Callable[[Any, Any], Any]) -> Any:
    """⌊x/p⌋ from the exact rest: (x − fmod)/p is an integer but for its rounding. A zero has the sign of x/p,
    and x/0 is a division.
    """
    a, b, rest, apart = _rest(builder, x, p, fmod)
    plain = a / b
    quotient = (a - rest) / b
    quotient = apart.where(quotient - 1.0, quotient)
    down = Value(builder, floor(builder, quotient.value))
    down = (quotient - down > 0.5).where(down + 1.0, down)
    return b.equals(0.0).where(plain, quotient.equals(0.0).where(plain * 0.0, down)).value


def _on_values(function: Callable[[Value], Value]) -> Callable[[Any, Any], Any]:
    return lambda builder, x: function(Value(builder, x)).value


FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "floor": _on_values(lambda x: x.intrinsic("floor")),
    "sqrt": _on_values(lambda x: x.intrinsic("sqrt")),
    "exp": _on_values(_exp),
    "expm1": _on_values(_expm1),
    "exp2": _on_values(_exp2),
    "log": _on_values(_logarithm(_log_near_one)),
    "log1p": _on_values(_log1p),
    "log2": _on_values(_logarithm(_log2_near_one)),
    "log10": _on_values(_logarithm(_log10_near_one)),
    "sin": _on_values(_sin_cos("sin", 0)),
    "cos": _on_values(_sin_cos("cos", 1)),
    "tanh": _on_values(_tanh),
    "arctan": _on_values(_arctan),
    "erf": _on_values(_erf),
}
