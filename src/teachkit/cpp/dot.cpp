// Products of activations with weights in int8 or int4, from the codes as they are stored.
//
// A decode step reads every weight once and uses it once, so the product should cost no more than reading.
// Widening each code to a float does cost more. Here codes stay integers: the processor multiplies 64 pairs of
// bytes and adds them up by fours in one instruction (VNNI); where it has none, a loop gives the same sums.
//
// Activations become integers, too: a row x is scale * (first + second / 254), two digits from -127 to 127, so
// that x is off by less than absmax / 64,000, far less than a rounding to bfloat16 may put it off. (With one
// digit, scale * first, this is W8A8.) Sums of integers are exact: the result does not depend on the number of
// threads, nor on the other rows; nor on the processor, but for the last bits where one cannot fuse a product
// and a sum of floats.
//
// Weights lie in tiles of 16 outputs, and in a tile group by group, in the order in which they are read: the
// scales (and zeros) of the 16 outputs, then their codes. 64 codes are those of 4 neighbouring inputs for each
// of the 16 outputs; in int4 64 bytes hold two such sets, one in the low and one in the high nibbles.
// teachkit/native.py makes the tiles, and says what the arguments are.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#if defined(__AVX512VNNI__) && defined(__AVX512F__)
#include <immintrin.h>
#define TEACHKIT_VNNI
#endif

namespace {

constexpr int64_t OUTPUTS = 16, INPUTS = 4, SET = OUTPUTS * INPUTS;

// --- 64 codes at a time ------------------------------------------------------------------------------------

#ifdef TEACHKIT_VNNI
using Codes = __m512i;
using Sums = __m512i;

Codes load(const uint8_t* from) { return _mm512_loadu_si512(from); }
Codes low_nibbles(Codes c) { return _mm512_and_si512(c, _mm512_set1_epi8(15)); }
Codes high_nibbles(Codes c) { return low_nibbles(_mm512_srli_epi16(c, 4)); }
Sums none() { return _mm512_setzero_si512(); }

// sums[n] += codes[n][0] * x[0] + ... + codes[n][3] * x[3], for each of 16 outputs n
void add(Sums& sums, Codes codes, const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, INPUTS);
  sums = _mm512_dpbusd_epi32(sums, codes, _mm512_set1_epi32(four));
}

void write(int32_t* to, Sums sums) { _mm512_storeu_si512(to, sums); }
#else
struct Codes { uint8_t at[SET]; };
struct Sums { int32_t at[OUTPUTS]; };

Codes load(const uint8_t* from) {
  Codes c;
  std::memcpy(c.at, from, SET);
  return c;
}
Codes low_nibbles(Codes c) {
  for (uint8_t& code : c.at) code &= 15;
  return c;
}
Codes high_nibbles(Codes c) {
  for (uint8_t& code : c.at) code >>= 4;
  return c;
}
Sums none() { return {}; }

void add(Sums& sums, const Codes& codes, const int8_t* x) {
  for (int n = 0; n < OUTPUTS; ++n)
    for (int i = 0; i < INPUTS; ++i) sums.at[n] += codes.at[n * INPUTS + i] * x[i];
}

void write(int32_t* to, const Sums& sums) { std::memcpy(to, sums.at, sizeof sums.at); }
#endif

// --- activations --------------------------------------------------------------------------------------------

struct Row {
  std::vector<int8_t> digits;  // K of the first digit, then K of the second
  std::vector<int32_t> sums;   // of each group: of its first digits, then of its second
  float scale;
};

// The largest |x|, as bits: of floats without a sign the larger has the larger bits, and NaN the largest.
float absmax(const float* x, int64_t K) {
  uint32_t largest = 0;
  for (int64_t k = 0; k < K; ++k) {
    uint32_t bits;
    std::memcpy(&bits, x + k, sizeof bits);
    largest = std::max(largest, bits & 0x7fffffffu);
  }
  float value;
  std::memcpy(&value, &largest, sizeof value);
  return value;
}

int8_t nearest(float x) { return static_cast<int8_t>(static_cast<int32_t>(std::nearbyint(x))); }

// As quant.quantize_tokens; a second digit is the nearest to what the first leaves, in 254 steps.
void to_digits(const float* x, int64_t K, int64_t group, int64_t n_digits, Row& row) {
  const float largest = absmax(x, K), top = std::numeric_limits<float>::max();
  float scale = std::max(largest / 127, std::numeric_limits<float>::min());
  if (largest == top) scale *= 1 - 0x1p-22f;  // 127 times the rounded scale would be infinite
  row.scale = std::isfinite(largest) ? scale : NAN;
  row.digits.resize(n_digits * K);
  row.sums.assign(n_digits * (K / group), 0);
  if (!std::isfinite(largest)) return;  // the row comes back as NaN whatever the digits are
  int8_t *first = row.digits.data(), *second = first + K;
  for (int64_t k = 0; k < K; ++k) first[k] = nearest(x[k] / scale);
  if (n_digits == 2)
    for (int64_t k = 0; k < K; ++k) second[k] = nearest((x[k] / scale - first[k]) * 254);
  for (size_t g = 0; g < row.sums.size(); ++g) {
    int32_t sum = 0;
    for (int64_t k = 0; k < group; ++k) sum += first[g * group + k];
    row.sums[g] = sum;
  }
}

// --- weights ------------------------------------------------------------------------------------------------

// value = (code - CENTRE) * scale + zero. Int8 has one group, and no zero.
struct Int8 {
  static constexpr int BITS = 8, CENTRE = 128;
  float scale[OUTPUTS];
};
struct Int4 {
  static constexpr int BITS = 4, CENTRE = 8;
  c10::BFloat16 scale[OUTPUTS], zero[OUTPUTS];
};

template <typename Format>
constexpr int64_t tile_bytes(int64_t K, int64_t group) {
  return K / group * sizeof(Format) + K * OUTPUTS * Format::BITS / 8;
}

// 16 outputs of one row. Two sums for each digit: one alone would wait for each of its additions.
template <typename Format, int DIGITS>
void tile(const uint8_t* from, const Row& row, int64_t K, int64_t group, float* out) {
  const int64_t groups = K / group;
  float total[OUTPUTS] = {};
  for (int64_t g = 0; g < groups; ++g) {
    Format w;
    std::memcpy(&w, from, sizeof w);
    from += sizeof w;
    Sums even[DIGITS], odd[DIGITS];
    for (int d = 0; d < DIGITS; ++d) even[d] = odd[d] = none();
    for (int64_t k = g * group; k < (g + 1) * group; k += 2 * INPUTS) {
      Codes a, b;
      if constexpr (Format::BITS == 4) {
        const Codes both = load(from);
        a = low_nibbles(both), b = high_nibbles(both);
        from += SET;
      } else {
        a = load(from), b = load(from + SET);
        from += 2 * SET;
      }
      for (int d = 0; d < DIGITS; ++d) {
        add(even[d], a, row.digits.data() + d * K + k);
        add(odd[d], b, row.digits.data() + d * K + k + INPUTS);
      }
    }
    int32_t sums[DIGITS][2][OUTPUTS];
    for (int d = 0; d < DIGITS; ++d) write(sums[d][0], even[d]), write(sums[d][1], odd[d]);
    const int32_t* of_x = row.sums.data() + g;
    for (int n = 0; n < OUTPUTS; ++n) {
      float dot = 0, x = 0;
      for (int d = 0; d < DIGITS; ++d) {
        dot = 254 * dot + static_cast<float>(sums[d][0][n] + sums[d][1][n] - Format::CENTRE * of_x[d * groups]);
        x = 254 * x + static_cast<float>(of_x[d * groups]);
      }
      total[n] += static_cast<float>(w.scale[n]) * dot;
      if constexpr (Format::BITS == 4) total[n] += static_cast<float>(w.zero[n]) * x;
    }
  }
  constexpr float STEP = DIGITS == 2 ? 1.0f / 254 : 1.0f;  // here: of tiny rows scale / 254 would be inexact
  for (int n = 0; n < OUTPUTS; ++n) out[n] = total[n] * STEP * row.scale;
}

// All tiles of all matrices in one loop that the threads share: starting it costs as much as a small matrix.
template <typename Format, int DIGITS>
void multiply(const at::Tensor& x, at::TensorList matrices, int64_t group, at::Tensor& out) {
  const int64_t K = x.size(1), M = x.size(0), N = out.size(1), bytes = tile_bytes<Format>(K, group);
  std::vector<const uint8_t*> tiles;
  tiles.reserve(N / OUTPUTS);
  for (const at::Tensor& matrix : matrices) {
    const uint8_t* first = matrix.const_data_ptr<uint8_t>();
    for (int64_t t = 0; t < matrix.size(0); ++t) tiles.push_back(first + t * bytes);
  }
  std::vector<Row> rows(M);
  for (int64_t m = 0; m < M; ++m) to_digits(x.const_data_ptr<float>() + m * K, K, group, DIGITS, rows[m]);
  float* result = out.mutable_data_ptr<float>();
  constexpr int64_t AT_LEAST = 4;  // tiles for a thread
  at::parallel_for(0, N / OUTPUTS, AT_LEAST, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t)
      for (int64_t m = 0; m < M; ++m)  // the tile stays in the cache for all rows
        tile<Format, DIGITS>(tiles[t], rows[m], K, group, result + m * N + t * OUTPUTS);
  });
}

template <typename Format>
at::Tensor product(const at::Tensor& x, at::TensorList matrices, int64_t group, int64_t digits) {
  int64_t N = 0;
  for (const at::Tensor& matrix : matrices) {
    const bool fits = matrix.dim() == 2 && matrix.size(1) == tile_bytes<Format>(x.size(1), group);
    TORCH_CHECK(fits && matrix.is_contiguous(), "matrices: expected tiles for ", x.size(1), " inputs");
    N += matrix.size(0) * OUTPUTS;
  }
  at::Tensor out = at::empty({x.size(0), N}, x.options());
  if (digits == 1) multiply<Format, 1>(x, matrices, group, out);
  else multiply<Format, 2>(x, matrices, group, out);
  return out;
}

at::Tensor dot(const at::Tensor& x, at::TensorList matrices, int64_t bits, int64_t group, int64_t digits) {
  TORCH_CHECK(x.dim() == 2 && x.scalar_type() == at::kFloat && x.is_contiguous(), "x: expected float32 rows");
  TORCH_CHECK((bits == 4 || bits == 8) && (digits == 1 || digits == 2), "bits, digits: expected 4 or 8, 1 or 2");
  // Without this a backward pass would stop here with a warning, and leave gradients out.
  TORCH_CHECK(!(at::GradMode::is_enabled() && x.requires_grad()), "x: this product has no gradient; ",
              "use the model that fast() was given, or torch.no_grad()");
  const int64_t K = x.size(1);
  TORCH_CHECK(group > 0 && group % (2 * INPUTS) == 0 && K % group == 0, "group: expected a divisor of ", K);
  TORCH_CHECK(K < (1 << 16) && (bits == 4 || group == K), "x: sums of this many products are not exact");
  return bits == 4 ? product<Int4>(x, matrices, group, digits) : product<Int8>(x, matrices, group, digits);
}

// Whether sums are made by the processor's own instruction: the same sums, another speed.
bool has_vnni() {
#ifdef TEACHKIT_VNNI
  return true;
#else
  return false;
#endif
}

}  // namespace

TORCH_LIBRARY(teachkit, library) {
  library.def("dot(Tensor x, Tensor[] matrices, int bits, int group, int digits) -> Tensor");
  library.def("has_vnni() -> bool", &has_vnni);
}

TORCH_LIBRARY_IMPL(teachkit, CPU, library) { library.impl("dot", &dot); }
