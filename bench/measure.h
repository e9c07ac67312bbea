// How the rows of scripts/bench are timed: each is a function that does its work a number of times.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

// Nanoseconds of the monotonic clock.
uint64_t now();

// Makes the compiler believe that a value is read, or that memory is read and written.
template <typename T>
inline void keep(const T& value) {
  asm volatile("" : : "g"(value) : "memory");
}

// What a row was asked to do.
struct Request {
  double seconds = 0.2;                // to spend on all repetitions together
  std::vector<std::string> arguments;  // what stood behind the name
};

// Nanoseconds per operation: runs `work(n)` with an n that fills a fifth of the time, five times,
// and takes the best. `work` returns the nanoseconds that count, so that it may set up outside
// them.
double best_time(const Request& request, const std::function<uint64_t(uint64_t)>& work);

// The same for work that counts as a whole.
double best_whole_time(const Request& request, const std::function<void(uint64_t)>& work);

// Ends the program with a message if a system call failed: half a measurement is none.
long checked(long result, std::string_view what);

// Two that talk need no second processor, and a machine with one has none: natively as there.
void stay_on_one_processor();

// A number that looks random and is the same in every run (xorshift64*).
class Random {
 public:
  uint64_t next();

 private:
  uint64_t state_ = 0x9E3779B97F4A7C15;
};

struct Row {
  std::string_view name;
  std::string_view operation;  // what one operation is
  double (*run)(const Request&);
};

// Every row there is, in the order of the rooms they come from.
std::vector<Row> all_rows();

std::vector<Row> compute_rows();
std::vector<Row> control_rows();
std::vector<Row> memory_rows();
std::vector<Row> kernel_rows();
std::vector<Row> process_rows();
std::vector<Row> thread_rows();
std::vector<Row> block_rows();

}  // namespace bench
