// 3x3 and 1x1 convolutions of channels-last float32 pictures, with the modulation before and bias and residual after.
//
// Large pictures use the minimal filtering algorithms F(4x4, 3x3) and F(2x2, 3x3): Lavin & Gray, "Fast Algorithms for
// Convolutional Neural Networks", 2015, arXiv:1509.09308, with 36 multiplications for 16 outputs instead of 144 (16 for
// 4 instead of 36). Every output value is a sum in a fixed order: it depends neither on the other pictures of a batch
// nor on the number of threads.
#include "vectors.h"

namespace {

constexpr int ROWS = 6;        // rows of the micro kernel
constexpr int64_t DEPTH = 256; // inner dimension that is worked off at once: a panel of weights stays in the L2 cache
constexpr int64_t BLOCK = 96;  // tiles that one thread takes through all three phases; a multiple of ROWS
enum Method { POINTWISE = 0, DIRECT = 1, F2 = 2, F4 = 4 };

struct Problem {
    const float* x;        // (n, h, w, c), or (n, h/2, w/2, c) when doubled
    const int32_t* index;  // (n, h, w) rows of the table, or null: no modulation
    const float* table;    // (K, 2 c)
    const float* weights;  // packed
    const float* bias;     // (o) or null
    const float* residual; // (n, h, w, o_stored) or null
    float* out;            // (n, h, w, o_stored)
    int64_t n, h, w, c, o, o_stored;
    int doubled;
    float slope;

};

// The places that one tile reads, found once for all channels: source values and table rows, null when outside.
struct Patch {
    const float* source[36];
    const float* row[36];

    void find(const Problem& p, int64_t image, int64_t top, int64_t left, int side) {
        for (int k = 0; k < side * side; ++k) {
            int64_t i = top + k / side, j = left + k % side;
            source[k] = row[k] = nullptr;
            if (i < 0 || j < 0 || i >= p.h || j >= p.w) continue;
            int64_t parent = (image * (p.h >> 1) + (i >> 1)) * (p.w >> 1) + (j >> 1), here = (image * p.h + i) * p.w + j;
            source[k] = p.x + (p.doubled ? parent : here) * p.c;
            if (p.index) row[k] = p.table + int64_t(p.index[here]) * 2 * p.c;
        }
    }

    // The activated input, LANES values from `channel` on; zero outside.
    Vec value(const Problem& p, int k, int64_t channel) const {
        if (!source[k]) return Vec{};
        Vec v = load(source[k] + channel);
        if (p.index) v = v * load(row[k] + channel) + load(row[k] + p.c + channel);
        return p.slope == 1.0f ? v : leaky(v, p.slope);
    }
};

// 1-D transforms on values that lie `step` apart.
template <int M>
inline void to_products(Vec* d, int step);
template <>
inline void to_products<4>(Vec* d, int s) {
    Vec a = d[0], b = d[s], c = d[2 * s], e = d[3 * s], f = d[4 * s], g = d[5 * s];
    d[0] = 4 * a - 5 * c + f;
    Vec t = f - 4 * c, u = e - 4 * b;
    d[s] = t + u;
    d[2 * s] = t - u;
    t = f - c;
    u = 2 * (e - b);
    d[3 * s] = t + u;
    d[4 * s] = t - u;
    d[5 * s] = 4 * b - 5 * e + g;
}
template <>
inline void to_products<2>(Vec* d, int s) {
    Vec a = d[0], b = d[s], c = d[2 * s], e = d[3 * s];
    d[0] = a - c;
    d[s] = b + c;
    d[2 * s] = c - b;
    d[3 * s] = b - e;
}
template <int M>
inline void to_outputs(Vec* m, int step);
template <>
inline void to_outputs<4>(Vec* m, int s) {
    Vec p = m[s] + m[2 * s], q = m[s] - m[2 * s], r = m[3 * s] + m[4 * s], t = m[3 * s] - m[4 * s];
    m[0] = m[0] + p + r;
    m[s] = q + 2 * t;
    m[2 * s] = p + 4 * r;
    m[3 * s] = q + 8 * t + m[5 * s];
}
template <>
inline void to_outputs<2>(Vec* m, int s) {
    Vec a = m[0], b = m[s], c = m[2 * s], e = m[3 * s];
    m[0] = a + b + c;
    m[s] = b - c - e;
}

// Sizes that follow from the method: products per tile and channel, and depth of the matrix product.
struct Sizes {
    int64_t products, depth, tile, across, down, tiles;
    Sizes(int method, const Problem& p) {
        tile = method == F4 ? 4 : method == F2 ? 2 : 1;
        products = tile == 1 ? 1 : (tile + 2) * (tile + 2);
        depth = method == DIRECT ? 9 * p.c : p.c;
        across = (p.w + tile - 1) / tile;
        down = (p.h + tile - 1) / tile;
        tiles = p.n * down * across;
    }
};

// Phase 1: tiles [begin, end) -> values: product xi of tile begin + i lies at xi * plane + i * depth.
template <int M>
void gather_tiles(const Problem& p, const Sizes& sizes, int64_t begin, int64_t end, float* values, int64_t plane) {
    constexpr int S = M + 2;
    Patch patch;
    for (int64_t t = begin; t < end; ++t) {
        int64_t image = t / (sizes.down * sizes.across), rest = t % (sizes.down * sizes.across);
        patch.find(p, image, rest / sizes.across * M - 1, rest % sizes.across * M - 1, S);
        for (int64_t channel = 0; channel < p.c; channel += LANES) {
            Vec d[S * S];
            for (int k = 0; k < S * S; ++k) d[k] = patch.value(p, k, channel);
            for (int i = 0; i < S; ++i) to_products<M>(d + i * S, 1);
            for (int j = 0; j < S; ++j) to_products<M>(d + j, S);
            for (int k = 0; k < S * S; ++k) store(values + k * plane + (t - begin) * p.c + channel, d[k]);
        }
    }
}

void gather_pixels(const Problem& p, const Sizes& sizes, int64_t begin, int64_t end, float* values) {
    int side = sizes.depth == p.c ? 1 : 3;
    Patch patch;
    for (int64_t t = begin; t < end; ++t) {
        patch.find(p, t / (p.h * p.w), t / p.w % p.h - side / 2, t % p.w - side / 2, side);
        for (int tap = 0; tap < side * side; ++tap)
            for (int64_t channel = 0; channel < p.c; channel += LANES)
                store(values + (t - begin) * sizes.depth + tap * p.c + channel, patch.value(p, tap, channel));
    }
}

void gather(int method, const Problem& p, const Sizes& sizes, int64_t begin, int64_t end, float* values, int64_t plane) {
    if (method == F4)
        gather_tiles<4>(p, sizes, begin, end, values, plane);
    else if (method == F2)
        gather_tiles<2>(p, sizes, begin, end, values, plane);
    else
        gather_pixels(p, sizes, begin, end, values);
}

// ROWS x (NV vectors) of the product; continues sums that are already there unless it is the first part of the depth.
template <int NV>
inline void micro(const float* a, int64_t a_stride, const float* panel, float* sums, int64_t o, int64_t depth, bool first) {
    Vec acc[ROWS][NV];
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < NV; ++v) acc[r][v] = first ? Vec{} : load(sums + r * o + v * LANES);
    for (int64_t k = 0; k < depth; ++k) {
        Vec b[NV];
        for (int v = 0; v < NV; ++v) b[v] = load(panel + (k * NV + v) * LANES);
        for (int r = 0; r < ROWS; ++r) {
            float value = a[r * a_stride + k];
            for (int v = 0; v < NV; ++v) acc[r][v] += value * b[v];
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < NV; ++v) store(sums + r * o + v * LANES, acc[r][v]);
}

template <int NV>
void multiply_panel(const float* a, int64_t rows, int64_t depth, const float* panel, float* sums, int64_t o) {
    for (int64_t k = 0; k < depth; k += DEPTH)
        for (int64_t r = 0; r < rows; r += ROWS)
            micro<NV>(a + r * depth + k, depth, panel + k * NV * LANES, sums + r * o, o,
                      depth - k < DEPTH ? depth - k : DEPTH, k == 0);
}

// Phase 2 for one product and one panel: sums (rows, o) columns of that panel = values (rows, depth) @ weights.
// rows is a multiple of ROWS.
void multiply(const float* values, int64_t rows, int64_t depth, const float* weights, float* sums, int64_t o, int64_t panel) {
    int64_t from = panel * PANEL_VECTORS * LANES, vectors = (o - from) / LANES;
    const float* b = weights + from * depth;
    float* target = sums + from;
    if (vectors >= PANEL_VECTORS)
        multiply_panel<PANEL_VECTORS>(values, rows, depth, b, target, o);
    else if (vectors == 3)
        multiply_panel<3>(values, rows, depth, b, target, o);
    else if (vectors == 2)
        multiply_panel<2>(values, rows, depth, b, target, o);
    else
        multiply_panel<1>(values, rows, depth, b, target, o);
}

// Phase 3 for one output pixel at offset `at`: bias and residual are added on the way out.
inline void write(const Problem& p, int64_t at, int64_t channel, Vec v) {
    if (channel + LANES <= p.o_stored) {
        if (p.residual) v += load(p.residual + at + channel);
        store(p.out + at + channel, v);
        return;
    }
    for (int64_t k = 0; channel + k < p.o_stored; ++k)
        p.out[at + channel + k] = v[k] + (p.residual ? p.residual[at + channel + k] : 0.0f);
}

template <int M>
void scatter_tiles(const Problem& p, const Sizes& sizes, int64_t begin, int64_t end, const float* sums, int64_t plane) {
    constexpr int S = M + 2;
    for (int64_t t = begin; t < end; ++t) {
        int64_t image = t / (sizes.down * sizes.across), rest = t % (sizes.down * sizes.across);
        int64_t top = rest / sizes.across * M, left = rest % sizes.across * M;
        int64_t corner = ((image * p.h + top) * p.w + left) * p.o_stored;
        int down = p.h - top < M ? int(p.h - top) : M, across = p.w - left < M ? int(p.w - left) : M;
        for (int64_t channel = 0; channel < p.o; channel += LANES) {
            Vec m[S * S], bias = p.bias ? load(p.bias + channel) : Vec{};
            for (int k = 0; k < S * S; ++k) m[k] = load(sums + k * plane + (t - begin) * p.o + channel);
            for (int j = 0; j < S; ++j) to_outputs<M>(m + j, S);
            for (int i = 0; i < M; ++i) to_outputs<M>(m + i * S, 1);
            for (int i = 0; i < down; ++i)
                for (int j = 0; j < across; ++j)
                    write(p, corner + (i * p.w + j) * p.o_stored, channel, m[i * S + j] + bias);
        }
    }
}

void scatter(int method, const Problem& p, const Sizes& sizes, int64_t begin, int64_t end, const float* sums, int64_t plane) {
    if (method == F4) return scatter_tiles<4>(p, sizes, begin, end, sums, plane);
    if (method == F2) return scatter_tiles<2>(p, sizes, begin, end, sums, plane);
    for (int64_t t = begin; t < end; ++t)
        for (int64_t channel = 0; channel < p.o; channel += LANES)
            write(p, t * p.o_stored, channel,
                  load(sums + (t - begin) * p.o + channel) + (p.bias ? load(p.bias + channel) : Vec{}));
}

int64_t panels_of(int64_t o) { return (o + PANEL_VECTORS * LANES - 1) / (PANEL_VECTORS * LANES); }

// Kept from call to call (per calling thread): fresh memory costs more time than what is written into it.
thread_local Scratch value_memory, sum_memory;

// Floats from one product to the next. The odd cache lines keep the 36 of them out of the same sets of the cache.
int64_t plane_of(int64_t rows, int64_t width) { return rows * width + 3 * LANES; }

// Many tiles: each thread takes its blocks through all three phases, in its own caches.
void by_blocks(int method, const Problem& p, const Sizes& sizes, int threads) {
    int64_t blocks = (sizes.tiles + BLOCK - 1) / BLOCK;
    int64_t value_plane = plane_of(BLOCK, sizes.depth), sum_plane = plane_of(BLOCK, p.o);
    float* all_values = value_memory.at_least(threads * sizes.products * value_plane);
    float* all_sums = sum_memory.at_least(threads * sizes.products * sum_plane);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t block = 0; block < blocks; ++block) {
        float* values = all_values + this_thread() * sizes.products * value_plane;
        float* sums = all_sums + this_thread() * sizes.products * sum_plane;
        int64_t begin = block * BLOCK, end = begin + BLOCK < sizes.tiles ? begin + BLOCK : sizes.tiles;
        int64_t rows = (end - begin + ROWS - 1) / ROWS * ROWS;
        gather(method, p, sizes, begin, end, values, value_plane);
        for (int64_t xi = 0; xi < sizes.products; ++xi)
            for (int64_t panel = 0; panel < panels_of(p.o); ++panel)
                multiply(values + xi * value_plane, rows, sizes.depth, p.weights + xi * sizes.depth * p.o,
                         sums + xi * sum_plane, p.o, panel);
        scatter(method, p, sizes, begin, end, sums, sum_plane);
    }
}

// Few tiles: all threads share them, each multiplies with its own part of the weights, which are read once.
void by_weights(int method, const Problem& p, const Sizes& sizes, int threads) {
    int64_t rows = (sizes.tiles + ROWS - 1) / ROWS * ROWS, panels = panels_of(p.o);
    int64_t value_plane = plane_of(rows, sizes.depth), sum_plane = plane_of(rows, p.o);
    float* values = value_memory.at_least(sizes.products * value_plane);
    float* sums = sum_memory.at_least(sizes.products * sum_plane);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic, 1)
        for (int64_t t = 0; t < sizes.tiles; t += ROWS) {
            int64_t end = t + ROWS < sizes.tiles ? t + ROWS : sizes.tiles;
            gather(method, p, sizes, t, end, values + t * sizes.depth, value_plane);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < sizes.products * panels; ++task) {
            int64_t xi = task / panels;
            multiply(values + xi * value_plane, rows, sizes.depth, p.weights + xi * sizes.depth * p.o,
                     sums + xi * sum_plane, p.o, task % panels);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t t = 0; t < sizes.tiles; t += ROWS) {
            int64_t end = t + ROWS < sizes.tiles ? t + ROWS : sizes.tiles;
            scatter(method, p, sizes, t, end, sums + t * p.o, sum_plane);
        }
    }
}

// G g G^T of the 3x3 filters g[tap] (LANES output channels side by side) -> products.
template <int M>
void filter_products(const Vec* g, Vec* u) {
    constexpr int S = M + 2;
    Vec half[S][3];
    for (int j = 0; j < 3; ++j) {
        Vec a = g[j], b = g[3 + j], c = g[6 + j];
        if (M == 2) {
            half[0][j] = a, half[1][j] = (a + b + c) * 0.5f, half[2][j] = (a - b + c) * 0.5f, half[3][j] = c;
        } else {
            Vec even = a + c, wide = a + 4 * c;
            half[0][j] = a * 0.25f, half[1][j] = (even + b) * (-1 / 6.0f), half[2][j] = (even - b) * (-1 / 6.0f);
            half[3][j] = (wide + 2 * b) * (1 / 24.0f), half[4 % S][j] = (wide - 2 * b) * (1 / 24.0f), half[5 % S][j] = c;
        }
    }
    for (int i = 0; i < S; ++i) {
        Vec a = half[i][0], b = half[i][1], c = half[i][2];
        if (M == 2) {
            u[i * S] = a, u[i * S + 1] = (a + b + c) * 0.5f, u[i * S + 2] = (a - b + c) * 0.5f, u[i * S + 3] = c;
        } else {
            Vec even = a + c, wide = a + 4 * c;
            u[i * S] = a * 0.25f, u[i * S + 1] = (even + b) * (-1 / 6.0f), u[i * S + 2] = (even - b) * (-1 / 6.0f);
            u[i * S + 3] = (wide + 2 * b) * (1 / 24.0f), u[i * S + 4] = (wide - 2 * b) * (1 / 24.0f), u[i * S + S - 1] = c;
        }
    }
}

// Where the packed weight of (product, depth k, output channel o) begins: panels of up to PANEL_VECTORS vectors.
int64_t packed_at(int64_t xi, int64_t k, int64_t channel, int64_t depth, int64_t o) {
    int64_t width = PANEL_VECTORS * LANES, from = channel / width * width;
    int64_t here = o - from < width ? o - from : width;
    return xi * depth * o + from * depth + k * here + channel - from;
}

}  // namespace

// weights (taps, c, o) with o a multiple of LANES -> packed (products, depth, o) for the method.
extern "C" void pack_weights(const float* weights, float* packed, int64_t c, int64_t o, int method, int threads) {
    int taps = method == POINTWISE ? 1 : 9;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t k = 0; k < c; ++k) {
        for (int64_t channel = 0; channel < o; channel += LANES) {
            Vec g[9], u[36];
            for (int tap = 0; tap < taps; ++tap) g[tap] = load(weights + (tap * c + k) * o + channel);
            if (method == F4) filter_products<4>(g, u);
            if (method == F2) filter_products<2>(g, u);
            if (method == F4 || method == F2) {
                for (int xi = 0; xi < (method == F4 ? 36 : 16); ++xi) store(packed + packed_at(xi, k, channel, c, o), u[xi]);
            } else {
                for (int tap = 0; tap < taps; ++tap)
                    store(packed + packed_at(0, tap * c + k, channel, taps * c, o), g[tap]);
            }
        }
    }
}

// out = residual + bias + convolution of leaky(x * scale + shift); index, bias and residual may be null. 0 = done.
extern "C" int convolve(const float* x, const int32_t* index, const float* table, const float* weights, const float* bias,
                        const float* residual, float* out, int64_t n, int64_t h, int64_t w, int64_t c, int64_t o,
                        int64_t o_stored, int doubled, double slope, int method, int threads) {
    Problem p{x, index, table, weights, bias, residual, out, n, h, w, c, o, o_stored, doubled, float(slope)};
    Sizes sizes(method, p);
    try {
        if (sizes.tiles >= 3 * BLOCK * threads)
            by_blocks(method, p, sizes, threads);
        else
            by_weights(method, p, sizes, threads);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

// How many values a vector has: channel counts must be multiples of it.
extern "C" int lanes() { return LANES; }

// table (k, o) = bias + the sum over taps of (hidden @ weights of that tap)[parts[k, tap]].
// hidden (rounded up to ROWS, depth) for h distinct windows; weights packed for DIRECT. A panel of columns at a time:
// its h * taps products stay in the cache while they are added up. Each value is a sum in a fixed order.
extern "C" int make_table(const float* hidden, const int64_t* parts, const float* weights, const float* bias, float* table,
                          int64_t h, int64_t k, int64_t depth, int64_t taps, int64_t o, int threads) {
    int64_t rows = (h + ROWS - 1) / ROWS * ROWS, width = PANEL_VECTORS * LANES;
    float* all = nullptr;
    try {
        all = value_memory.at_least(threads * rows * taps * width);
    } catch (const std::bad_alloc&) {
        return 1;
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t panel = 0; panel < panels_of(o); ++panel) {
        float* products = all + this_thread() * rows * taps * width;  // (taps, rows, columns)
        int64_t from = panel * width, columns = o - from < width ? o - from : width;
        for (int64_t tap = 0; tap < taps; ++tap)
            multiply(hidden, rows, depth, weights + from * depth * taps + tap * depth * columns,
                     products + tap * rows * columns, columns, 0);
        for (int64_t row = 0; row < k; ++row) {
            for (int64_t channel = 0; channel < columns; channel += LANES) {
                Vec sum = load(bias + from + channel);
                for (int64_t tap = 0; tap < taps; ++tap)
                    sum += load(products + (tap * rows + parts[row * taps + tap]) * columns + channel);
                store(table + row * o + from + channel, sum);
            }
        }
    }
    return 0;
}
