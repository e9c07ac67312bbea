// Calls, returns and branches.
#include <algorithm>
#include <array>
#include <cstdlib>

#include "measure.h"

namespace bench {

namespace {

__attribute__((noinline, noclone)) unsigned fibonacci(unsigned n) {
  // Without this the compiler unrolls the recursion into loops.
  asm volatile("" : "+r"(n));
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

double recursive_calls(const Request& request) {
  constexpr unsigned kN = 18;
  constexpr double kCalls = 8361;  // that fibonacci(18) makes
  return best_whole_time(request,
                         [&](uint64_t count) {
                           for (uint64_t i = 0; i < count; ++i) keep(fibonacci(kN));
                         }) /
         kCalls;
}

using Step = uint64_t (*)(uint64_t);
template <uint64_t kSalt>
__attribute__((noinline, noclone)) uint64_t step(uint64_t value) {
  return (value ^ kSalt) + (value >> 3);
}

double indirect_calls(const Request& request) {
  constexpr std::array<Step, 8> kSteps = {step<1>,  step<3>,  step<5>,  step<7>,
                                          step<11>, step<13>, step<17>, step<19>};
  constexpr size_t kPattern = 4096;
  static std::array<Step, kPattern> pattern;
  Random random;
  for (Step& entry : pattern) entry = kSteps[random.next() >> 61];
  return best_whole_time(request,
                         [](uint64_t count) {
                           uint64_t value = 1;
                           for (uint64_t i = 0; i < count; ++i) {
                             keep(pattern.data());
                             for (const Step entry : pattern) value = entry(value);
                           }
                           keep(value);
                         }) /
         static_cast<double>(kPattern);
}

int compare(const void* left, const void* right) {
  const int a = *static_cast<const int*>(left), b = *static_cast<const int*>(right);
  return (a > b) - (a < b);
}

double sort(const Request& request) {
  constexpr size_t kNumbers = 20'000;
  static std::array<int, kNumbers> original, numbers;
  Random random;
  for (int& number : original) number = static_cast<int>(random.next() >> 33);
  return best_whole_time(request, [&](uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      numbers = original;
      std::qsort(numbers.data(), kNumbers, sizeof(int), compare);
      keep(numbers.data());
    }
  });
}

// A machine with a stack: what an interpreter of bytecode does all day.
enum class Op : uint8_t {
  kPush,
  kLoad,
  kStore,
  kAdd,
  kSubtract,
  kMultiply,
  kAnd,
  kJumpIfNot,
  kJump,
  kEnd
};

struct Code {
  Op op;
  int32_t operand;
};

__attribute__((noinline, noclone)) int64_t interpret(const Code* program, uint64_t& executed) {
  std::array<int64_t, 16> stack{}, variables{};
  int64_t* top = stack.data();
  uint64_t steps = 0;
  for (const Code* code = program;; ++code) {
    ++steps;
    switch (code->op) {
      case Op::kPush:
        *++top = code->operand;
        break;
      case Op::kLoad:
        *++top = variables[static_cast<size_t>(code->operand)];
        break;
      case Op::kStore:
        variables[static_cast<size_t>(code->operand)] = *top--;
        break;
      case Op::kAdd:
        --top, top[0] += top[1];
        break;
      case Op::kSubtract:
        --top, top[0] -= top[1];
        break;
      case Op::kMultiply:
        --top, top[0] *= top[1];
        break;
      case Op::kAnd:
        --top, top[0] &= top[1];
        break;
      case Op::kJumpIfNot:
        if (*top-- == 0) code = program + code->operand - 1;
        break;
      case Op::kJump:
        code = program + code->operand - 1;
        break;
      case Op::kEnd:
        executed += steps;
        return *top;
    }
  }
}

double bytecode(const Request& request) {
  // for (n = 200; n != 0; --n) sum = n & 1 ? n * 3 + sum : sum - n;
  constexpr std::array kProgram = {
      Code{Op::kPush, 200},   Code{Op::kStore, 0}, Code{Op::kLoad, 0},     Code{Op::kJumpIfNot, 22},
      Code{Op::kLoad, 0},     Code{Op::kPush, 1},  Code{Op::kAnd, 0},      Code{Op::kJumpIfNot, 14},
      Code{Op::kLoad, 0},     Code{Op::kPush, 3},  Code{Op::kMultiply, 0}, Code{Op::kLoad, 1},
      Code{Op::kAdd, 0},      Code{Op::kJump, 17}, Code{Op::kLoad, 1},     Code{Op::kLoad, 0},
      Code{Op::kSubtract, 0}, Code{Op::kStore, 1}, Code{Op::kLoad, 0},     Code{Op::kPush, 1},
      Code{Op::kSubtract, 0}, Code{Op::kJump, 1},  Code{Op::kLoad, 1},     Code{Op::kEnd, 0}};
  static std::array<Code, kProgram.size()> program;
  program = kProgram;
  uint64_t steps_of_one = 0;
  keep(interpret(program.data(), steps_of_one));
  return best_whole_time(request,
                         [&](uint64_t count) {
                           uint64_t steps = 0;
                           for (uint64_t i = 0; i < count; ++i) {
                             keep(program.data());
                             keep(interpret(program.data(), steps));
                           }
                         }) /
         static_cast<double>(steps_of_one);
}

}  // namespace

std::vector<Row> control_rows() {
  return {{"recursive-calls", "call", recursive_calls},
          {"indirect-calls", "call", indirect_calls},
          {"qsort", "sort of 20000 numbers", sort},
          {"bytecode", "bytecode", bytecode}};
}

}  // namespace bench
