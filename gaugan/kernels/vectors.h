// Vector type of the machine that compiles this, and threads. GCC and Clang vector extensions: no intrinsics.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#ifdef _OPENMP
#include <omp.h>
static inline int this_thread() { return omp_get_thread_num(); }
#else
static inline int this_thread() { return 0; }
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16;
constexpr int PANEL_VECTORS = 4;  // 6 rows x 4 vectors = 24 accumulators of 32 registers
#elif defined(__AVX__)
constexpr int LANES = 8;
constexpr int PANEL_VECTORS = 2;  // 12 accumulators of 16 registers
#else
constexpr int LANES = 4;
constexpr int PANEL_VECTORS = 2;
#endif

typedef float Vec __attribute__((vector_size(LANES * sizeof(float))));

static inline Vec load(const float* p) {
    Vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

static inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

static inline Vec leaky(Vec v, float slope) { return v > 0 ? v : v * slope; }

// bfloat16 is the upper half of a float32; stored with rounding to nearest even.
struct Bf16 {
    uint16_t bits;
};

template <class Acc>
static inline Acc widen(Acc v) {
    return v;
}

template <class Acc>
static inline Acc widen(Bf16 v) {
    uint32_t bits = uint32_t(v.bits) << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}

template <class T, class Acc>
static inline T narrow(Acc v) {
    return T(v);
}

template <>
inline Bf16 narrow<Bf16, float>(float v) {
    uint32_t bits;
    std::memcpy(&bits, &v, 4);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return {uint16_t(v != v ? 0x7fc0 : rounded)};
}

// Memory aligned for vectors that grows when asked for more and is given back with its owner.
struct Scratch {
    float* data = nullptr;
    size_t count = 0;
    Scratch() = default;
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { std::free(data); }
    float* at_least(size_t wanted) {
        if (wanted <= count) return data;
        std::free(data);
        count = 0;
        size_t bytes = (wanted * sizeof(float) + 63) / 64 * 64;
        data = static_cast<float*>(std::aligned_alloc(64, bytes));
        if (!data) throw std::bad_alloc();
        std::memset(data, 0, bytes);  // rows that fill up a block are multiplied too
        count = wanted;
        return data;
    }
};
