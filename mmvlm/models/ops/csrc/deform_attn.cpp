// Multi-scale deformable attention sampling on the CPU.
//
// B batch, S values (all levels), M heads, D channels per head, Q queries,
// L levels, K points. The inner loops run over contiguous D.
// Plain C++ without torch's headers, so that it compiles in a few seconds; the
// tensors' pointers come from Python and are contiguous.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace {

struct Level {
  int64_t height, width, start;
};

std::vector<Level> levels_of(const int64_t* shapes, int64_t L) {
  std::vector<Level> levels;
  int64_t start = 0;
  for (int64_t l = 0; l < L; ++l, shapes += 2) {
    levels.push_back({shapes[0], shapes[1], start});
    start += shapes[0] * shapes[1];
  }
  return levels;
}

// The four corners around a point: how far their rows lie from the head's first
// value, and the bilinear parts. A corner outside the map is zero on its own.
template <typename T>
struct Corners {
  int64_t offset[4];
  T share[4];
  T low_x, low_y, high_x, high_y;
  bool any;
  int inside;  // one bit per corner

  Corners(const Level& level, T x, T y, int64_t stride) {
    const T px = x * level.width - T(0.5), py = y * level.height - T(0.5);
    any = px > -1 && py > -1 && px < level.width && py < level.height;
    if (!any) return;
    const T fx = std::floor(px), fy = std::floor(py);
    const int64_t x0 = static_cast<int64_t>(fx), y0 = static_cast<int64_t>(fy);
    high_x = px - fx, high_y = py - fy;
    low_x = 1 - high_x, low_y = 1 - high_y;
    share[0] = low_y * low_x, share[1] = low_y * high_x;
    share[2] = high_y * low_x, share[3] = high_y * high_x;
    offset[0] = (level.start + y0 * level.width + x0) * stride;
    offset[1] = offset[0] + stride;
    offset[2] = offset[0] + level.width * stride;
    offset[3] = offset[2] + stride;
    const int left = x0 >= 0, right = x0 + 1 < level.width;
    const int top = y0 >= 0, bottom = y0 + 1 < level.height;
    inside = (top & left) | (top & right) << 1 | (bottom & left) << 2 |
             (bottom & right) << 3;
  }
};

// The channels of a head, in registers when their number N is known (N > 0).
template <typename T, int N>
struct Row {
  T data[N];
  Row(T*, int64_t) {
#pragma GCC unroll 64
    for (int d = 0; d < N; ++d) data[d] = 0;
  }
  T* get() { return data; }
  void store(T* target, int64_t) const {
    for (int d = 0; d < N; ++d) target[d] = data[d];
  }
};
template <typename T>
struct Row<T, 0> {
  T* data;
  Row(T* target, int64_t D) : data(target) { std::fill(target, target + D, T(0)); }
  T* get() { return data; }
  void store(T*, int64_t) const {}
};

struct Sizes {
  int64_t B, S, M, D, Q, L, K, threads;
};

template <typename T, int N>
void forward_kernel(const T* value, const T* locations, const T* weights, T* out,
                    const std::vector<Level>& levels, const Sizes& s) {
  const int64_t L = levels.size(), stride = s.M * s.D, points = L * s.K;
  const int64_t D = N > 0 ? N : s.D;
#pragma omp parallel for num_threads(s.threads)
  for (int64_t item = 0; item < s.B * s.Q * s.M; ++item) {
    const int64_t m = item % s.M, b = item / s.M / s.Q;
    const T* head = value + (b * s.S * s.M + m) * D;
    const T* location = locations + item * points * 2;
    const T* weight = weights + item * points;
    Row<T, N> row(out + item * D, D);
    T* sum = row.get();
    for (int64_t l = 0; l < L; ++l) {
      for (int64_t k = 0; k < s.K; ++k, location += 2, ++weight) {
        if (std::isnan(location[0] + location[1])) {
          for (int64_t d = 0; d < D; ++d)
            sum[d] = std::numeric_limits<T>::quiet_NaN();
        }
        const Corners<T> c(levels[l], location[0], location[1], stride);
        if (!c.any) continue;
        if (c.inside == 15) {
          const T a0 = c.share[0] * *weight, a1 = c.share[1] * *weight;
          const T a2 = c.share[2] * *weight, a3 = c.share[3] * *weight;
          const T *s0 = head + c.offset[0], *s1 = head + c.offset[1];
          const T *s2 = head + c.offset[2], *s3 = head + c.offset[3];
#pragma omp simd
          for (int64_t d = 0; d < D; ++d)
            sum[d] += a0 * s0[d] + a1 * s1[d] + a2 * s2[d] + a3 * s3[d];
          continue;
        }
        for (int corner = 0; corner < 4; ++corner) {
          if (!(c.inside >> corner & 1)) continue;
          const T share = c.share[corner] * *weight;
          const T* source = head + c.offset[corner];
#pragma omp simd
          for (int64_t d = 0; d < D; ++d) sum[d] += share * source[d];
        }
      }
    }
    row.store(out + item * D, D);
  }
}

template <typename T>
struct Grads {
  T *value, *locations, *weights;
};

// One (batch, head) pair owns its slice of the value gradient: no atomics.
template <typename T, int N>
void backward_kernel(const T* value, const T* locations, const T* weights,
                     const T* grad, const Grads<T>& grads,
                     const std::vector<Level>& levels, const Sizes& s) {
  const int64_t L = levels.size(), stride = s.M * s.D, points = L * s.K;
  const int64_t D = N > 0 ? N : s.D;
#pragma omp parallel for num_threads(s.threads)
  for (int64_t pair = 0; pair < s.B * s.M; ++pair) {
    const int64_t m = pair % s.M, b = pair / s.M;
    const T* head = value + (b * s.S * s.M + m) * D;
    T* grad_head = grads.value + (b * s.S * s.M + m) * D;
    for (int64_t q = 0; q < s.Q; ++q) {
      const int64_t item = (b * s.Q + q) * s.M + m;
      const T* row = grad + item * D;
      int64_t at = item * points;
      for (int64_t l = 0; l < L; ++l) {
        for (int64_t k = 0; k < s.K; ++k, ++at) {
          const Corners<T> c(levels[l], locations[2 * at], locations[2 * at + 1],
                             stride);
          if (!c.any) continue;
          T dots[4] = {0, 0, 0, 0};
          for (int corner = 0; corner < 4; ++corner) {
            if (!(c.inside >> corner & 1)) continue;
            const T share = c.share[corner] * weights[at];
            const T* source = head + c.offset[corner];
            T* target = grad_head + c.offset[corner];
            T dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t d = 0; d < D; ++d) {
              dot += row[d] * source[d];
              target[d] += share * row[d];
            }
            dots[corner] = dot;
          }
          grads.weights[at] = c.share[0] * dots[0] + c.share[1] * dots[1] +
                              c.share[2] * dots[2] + c.share[3] * dots[3];
          grads.locations[2 * at] =
              weights[at] * levels[l].width *
              (c.low_y * (dots[1] - dots[0]) + c.high_y * (dots[3] - dots[2]));
          grads.locations[2 * at + 1] =
              weights[at] * levels[l].height *
              (c.low_x * (dots[2] - dots[0]) + c.high_x * (dots[3] - dots[1]));
        }
      }
    }
  }
}

// Calls f with the number of channels as a constant where it is a usual one.
template <typename F>
void with_channels(int64_t D, const F& f) {
  switch (D) {
    case 16: return f(std::integral_constant<int, 16>());
    case 32: return f(std::integral_constant<int, 32>());
    case 64: return f(std::integral_constant<int, 64>());
    default: return f(std::integral_constant<int, 0>());
  }
}

template <typename T>
void forward(const T* value, const T* locations, const T* weights, T* out,
             const int64_t* shapes, const Sizes& s) {
  const auto levels = levels_of(shapes, s.L);
  with_channels(s.D, [&](auto channels) {
    forward_kernel<T, decltype(channels)::value>(value, locations, weights, out,
                                                 levels, s);
  });
}

template <typename T>
void backward(const T* value, const T* locations, const T* weights, const T* grad,
              const Grads<T>& grads, const int64_t* shapes, const Sizes& s) {
  const auto levels = levels_of(shapes, s.L);
  with_channels(s.D, [&](auto channels) {
    backward_kernel<T, decltype(channels)::value>(value, locations, weights, grad,
                                                  grads, levels, s);
  });
}

}  // namespace

#define MMVLM_DEFORM_ATTN(T, NAME)                                                 \
  extern "C" void deform_attn_##NAME(const T* value, const T* locations,           \
                                     const T* weights, T* out,                     \
                                     const int64_t* shapes, const Sizes* sizes) {  \
    forward(value, locations, weights, out, shapes, *sizes);                       \
  }                                                                                \
  extern "C" void deform_attn_backward_##NAME(                                     \
      const T* value, const T* locations, const T* weights, const T* grad,         \
      T* grad_value, T* grad_locations, T* grad_weights, const int64_t* shapes,    \
      const Sizes* sizes) {                                                        \
    const Grads<T> grads{grad_value, grad_locations, grad_weights};                \
    backward(value, locations, weights, grad, grads, shapes, *sizes);              \
  }

MMVLM_DEFORM_ATTN(float, float32)
MMVLM_DEFORM_ATTN(double, float64)
