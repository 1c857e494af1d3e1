// Numbers distinct codes in the order of their first appearance, and sorts pixels by number.
#include "vectors.h"

// codes (count) -> index (count): the number of each code; first (up to count): where each number appears first.
// Returns how many there are. Neighbours are mostly equal, so the last code is tried before the hash table.
extern "C" int64_t number_codes(const int64_t* codes, int64_t count, int32_t* index, int64_t* first) {
    int bits = 10;
    int32_t* slots = new int32_t[size_t(1) << bits];
    std::memset(slots, 0xff, sizeof(int32_t) << bits);
    int64_t found = 0;
    auto place = [&](int64_t code) {
        uint64_t at = (uint64_t(code) * 0x9E3779B97F4A7C15ull) >> (64 - bits);
        while (slots[at] >= 0 && codes[first[slots[at]]] != code) at = (at + 1) & ((uint64_t(1) << bits) - 1);
        return at;
    };
    for (int64_t p = 0; p < count; ++p) {
        if (p && codes[p] == codes[p - 1]) {
            index[p] = index[p - 1];
            continue;
        }
        uint64_t at = place(codes[p]);
        if (slots[at] < 0) {
            first[found] = p;
            slots[at] = int32_t(found++);
            index[p] = slots[at];
            if (found * 2 > (int64_t(1) << bits)) {
                ++bits;
                delete[] slots;
                slots = new int32_t[size_t(1) << bits];
                std::memset(slots, 0xff, sizeof(int32_t) << bits);
                for (int64_t k = 0; k < found; ++k) slots[place(codes[first[k]])] = int32_t(k);
            }
            continue;
        }
        index[p] = slots[at];
    }
    delete[] slots;
    return found;
}

// order (count): pixels sorted by number, equal ones in ascending order.
extern "C" void sort_pixels(const int32_t* index, int64_t count, int64_t numbers, int32_t* order) {
    int64_t* next = new int64_t[numbers + 1]();
    for (int64_t p = 0; p < count; ++p) ++next[index[p] + 1];
    for (int64_t k = 0; k < numbers; ++k) next[k + 1] += next[k];
    for (int64_t p = 0; p < count; ++p) order[next[index[p]]++] = int32_t(p);
    delete[] next;
}
