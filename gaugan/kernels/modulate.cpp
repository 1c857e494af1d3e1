// y = leaky(x * scale[window] + shift[window]) in one pass over channels-last memory, and its gradients.
// A table has a row of 2 C values per distinct label window: C scales, then C shifts.
#include "vectors.h"

namespace {

constexpr int64_t CHUNK = 2048;  // pixels per partial sum: fixed, so that sums don't depend on the thread count

// Where pixel p of the (N, H, W) grid reads x: the same place, or the pixel's parent when x is half the size.
struct Grid {
    int64_t h, w;
    int doubled;
    int64_t source(int64_t p) const {
        if (!doubled) return p;
        int64_t row = p / w, column = p % w;  // row counts through the whole batch: n * h + i, h even
        return (row >> 1) * (w >> 1) + (column >> 1);
    }
};

template <class T, class Acc>
void forward(const T* x, const int32_t* index, const Acc* table, T* y, int64_t pixels, int64_t c, Grid grid, Acc slope,
             int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t p = 0; p < pixels; ++p) {
        const T* source = x + grid.source(p) * c;
        const Acc* scale = table + int64_t(index[p]) * 2 * c;
        const Acc* shift = scale + c;
        T* target = y + p * c;
#pragma omp simd
        for (int64_t i = 0; i < c; ++i) {
            Acc v = widen<Acc>(source[i]) * scale[i] + shift[i];
            target[i] = narrow<T, Acc>(v > 0 ? v : v * slope);
        }
    }
}

// sums (K, 2 C): per window the sum of g * (x - mean) * rate, then that of g; g = dy behind the activation.
// Pixels are taken in the order of their windows (no order: they are in it already), a chunk at a time. A chunk's windows that may reach into its
// neighbours (the first and the last) go to `edges` and are added afterwards, in order.
template <class T, class Acc>
void window_sums(const T* x, const T* y, const T* dy, const int32_t* index, const int32_t* order, const Acc* mean,
                 const Acc* rate, Acc* sums, int64_t pixels, int64_t c, Grid grid, Acc slope, int threads) {
    int64_t chunks = (pixels + CHUNK - 1) / CHUNK, row = 2 * c;
    Acc* edges = new Acc[size_t(chunks) * 2 * row]();
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        int64_t begin = chunk * CHUNK, end = begin + CHUNK < pixels ? begin + CHUNK : pixels;
        int32_t first = index[order ? order[begin] : begin], last = index[order ? order[end - 1] : end - 1];
        for (int64_t q = begin; q < end; ++q) {
            int64_t p = order ? order[q] : q;
            int32_t k = index[p];
            Acc* sum = k == first ? edges + chunk * 2 * row : k == last ? edges + (chunk * 2 + 1) * row : sums + k * row;
            const T *source = x + grid.source(p) * c, *value = y + p * c, *gradient = dy + p * c;
#pragma omp simd
            for (int64_t i = 0; i < c; ++i) {
                Acc g = widen<Acc>(gradient[i]) * (widen<Acc>(value[i]) > 0 ? Acc(1) : slope);
                sum[i] += g * ((widen<Acc>(source[i]) - mean[i]) * rate[i]);
                sum[c + i] += g;
            }
        }
    }
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        int64_t begin = chunk * CHUNK, end = begin + CHUNK < pixels ? begin + CHUNK : pixels;
        int32_t ends[2] = {index[order ? order[begin] : begin], index[order ? order[end - 1] : end - 1]};
        for (int side = 0; side < (ends[0] == ends[1] ? 1 : 2); ++side)
            for (int64_t i = 0; i < row; ++i) sums[ends[side] * row + i] += edges[(chunk * 2 + side) * row + i];
    }
    delete[] edges;
}

// dx = sum over a pixel's children of g * scale[window], minus offset + slope_x * x (the normalisation's own part).
template <class T, class Acc>
void input_gradient(const T* x, const T* y, const T* dy, const int32_t* index, const Acc* table, const Acc* offset,
                    const Acc* linear, T* dx, int64_t n, int64_t c, Grid grid, Acc slope, int threads) {
    int64_t rows = n * (grid.doubled ? grid.h >> 1 : grid.h), columns = grid.doubled ? grid.w >> 1 : grid.w;
    int side = grid.doubled ? 2 : 1;
#pragma omp parallel num_threads(threads)
    {
        Acc* total = new Acc[c];
#pragma omp for schedule(static)
        for (int64_t s = 0; s < rows * columns; ++s) {
            const T* source = x + s * c;
#pragma omp simd
            for (int64_t i = 0; i < c; ++i) total[i] = -(offset[i] + linear[i] * widen<Acc>(source[i]));
            for (int child = 0; child < side * side; ++child) {
                int64_t p = ((s / columns) * side + child / side) * grid.w + (s % columns) * side + child % side;
                const T *value = y + p * c, *gradient = dy + p * c;
                const Acc* scale = table + int64_t(index[p]) * 2 * c;
#pragma omp simd
                for (int64_t i = 0; i < c; ++i)
                    total[i] += widen<Acc>(gradient[i]) * (widen<Acc>(value[i]) > 0 ? Acc(1) : slope) * scale[i];
            }
            for (int64_t i = 0; i < c; ++i) dx[s * c + i] = narrow<T, Acc>(total[i]);
        }
        delete[] total;
    }
}

// Mean and variance (divided by the count) of every channel of (pixels, C): two passes, fixed chunks, double totals.
template <class T, class Acc>
void moments(const T* x, Acc* mean, Acc* variance, int64_t pixels, int64_t c, int threads) {
    int64_t chunks = (pixels + CHUNK - 1) / CHUNK;
    Acc* partial = new Acc[size_t(chunks) * c];
    for (int pass = 0; pass < 2; ++pass) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            Acc* sum = partial + chunk * c;
            for (int64_t i = 0; i < c; ++i) sum[i] = 0;
            int64_t end = (chunk + 1) * CHUNK < pixels ? (chunk + 1) * CHUNK : pixels;
            for (int64_t p = chunk * CHUNK; p < end; ++p) {
                const T* row = x + p * c;
                if (pass == 0) {
#pragma omp simd
                    for (int64_t i = 0; i < c; ++i) sum[i] += widen<Acc>(row[i]);
                } else {
#pragma omp simd
                    for (int64_t i = 0; i < c; ++i) {
                        Acc d = widen<Acc>(row[i]) - mean[i];
                        sum[i] += d * d;
                    }
                }
            }
        }
        for (int64_t i = 0; i < c; ++i) {
            double total = 0;
            for (int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[chunk * c + i];
            (pass == 0 ? mean : variance)[i] = Acc(total / double(pixels));
        }
    }
    delete[] partial;
}

}  // namespace

#define EXPORT(NAME, T, Acc)                                                                                           \
    extern "C" void modulate_##NAME(const T* x, const int32_t* index, const Acc* table, T* y, int64_t n, int64_t h,    \
                                    int64_t w, int64_t c, int doubled, double slope, int threads) {                    \
        forward<T, Acc>(x, index, table, y, n* h* w, c, Grid{h, w, doubled}, Acc(slope), threads);                     \
    }                                                                                                                  \
    extern "C" void window_sums_##NAME(const T* x, const T* y, const T* dy, const int32_t* index,                      \
                                       const int32_t* order, const Acc* mean, const Acc* rate, Acc* sums, int64_t n,   \
                                       int64_t h, int64_t w, int64_t c, int doubled, double slope, int threads) {      \
        window_sums<T, Acc>(x, y, dy, index, order, mean, rate, sums, n* h* w, c, Grid{h, w, doubled}, Acc(slope),     \
                            threads);                                                                                  \
    }                                                                                                                  \
    extern "C" void input_gradient_##NAME(const T* x, const T* y, const T* dy, const int32_t* index, const Acc* table, \
                                          const Acc* offset, const Acc* linear, T* dx, int64_t n, int64_t h,           \
                                          int64_t w, int64_t c, int doubled, double slope, int threads) {              \
        input_gradient<T, Acc>(x, y, dy, index, table, offset, linear, dx, n, c, Grid{h, w, doubled}, Acc(slope),      \
                               threads);                                                                               \
    }                                                                                                                  \
    extern "C" void moments_##NAME(const T* x, Acc* mean, Acc* variance, int64_t pixels, int64_t c, int threads) {     \
        moments<T, Acc>(x, mean, variance, pixels, c, threads);                                                        \
    }

EXPORT(float32, float, float)
EXPORT(float64, double, double)
EXPORT(bfloat16, Bf16, float)
