// Memory: latency by size, and the C library's memcpy.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "measure.h"

namespace bench {

namespace {

struct alignas(64) Node {
  Node* next;
};

// One cycle through all nodes in random order (Sattolo's algorithm), one node per cache line.
std::vector<Node> random_cycle(size_t bytes) {
  std::vector<Node> nodes(bytes / sizeof(Node));
  std::vector<uint32_t> order(nodes.size());
  std::iota(order.begin(), order.end(), 0U);
  Random random;
  for (size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[random.next() % i]);
  for (size_t i = 0; i < order.size(); ++i) {
    nodes[order[i]].next = &nodes[order[(i + 1) % order.size()]];
  }
  return nodes;
}

double pointer_chase(const Request& request, size_t bytes) {
  const std::vector<Node> nodes = random_cycle(bytes);
  const Node* start = nodes.data();
  return best_whole_time(request, [&](uint64_t count) {
    const Node* node = start;
    for (uint64_t i = 0; i < count; ++i) node = node->next;
    // The next run goes on from there, so that no part of the cycle stays in a cache.
    start = node;
  });
}

double copy(const Request& request, size_t bytes) {
  std::vector<char> from(bytes, 'x'), to(bytes);
  return best_whole_time(request, [&](uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      // An opaque size: the C library's function is called, as in most programs.
      size_t size = bytes;
      asm volatile("" : "+r"(size));
      std::memcpy(to.data(), from.data(), size);
      keep(to.data());
    }
  });
}

}  // namespace

std::vector<Row> memory_rows() {
  return {{"chase-16k", "hop", [](const Request& r) { return pointer_chase(r, size_t{16} << 10); }},
          {"chase-1m", "hop", [](const Request& r) { return pointer_chase(r, size_t{1} << 20); }},
          {"chase-64m", "hop", [](const Request& r) { return pointer_chase(r, size_t{64} << 20); }},
          {"memcpy-256", "copy", [](const Request& r) { return copy(r, 256); }},
          {"memcpy-1m", "copy", [](const Request& r) { return copy(r, size_t{1} << 20); }}};
}

}  // namespace bench
