#include <fmt/format.h>

#include <algorithm>

#include "conformance/programs/laboratory.h"

namespace limen::conformance {
namespace {

class Reducer {
 public:
  Reducer(Reduced& best, NativeProcessor* native) : best_(best), native_(native) {}

  bool try_out(std::vector<Experiment> experiments) {
    auto laboratory = Laboratory::create(native_);
    if (!laboratory) return false;
    for (size_t i = 0; i < experiments.size(); ++i) {
      auto& experiment = experiments[i];
      const auto verdict = (*laboratory)->compare(experiment.program, experiment.situations);
      if (verdict.differences.empty()) continue;
      // What ran behind the difference is not needed.
      experiment.situations.resize(verdict.situation + 1);
      experiments.resize(i + 1);
      best_ = {true, std::move(experiments), verdict.differences};
      return true;
    }
    return false;
  }

  void drop_experiments() {
    for (size_t at_once = 16; at_once > 0; at_once /= 4) {
      for (size_t i = 0; i + 1 < best_.experiments.size();) {
        auto fewer = best_.experiments;
        const size_t end = std::min(i + at_once, fewer.size() - 1);
        fewer.erase(fewer.begin() + static_cast<ptrdiff_t>(i),
                    fewer.begin() + static_cast<ptrdiff_t>(end));
        if (!try_out(std::move(fewer))) i += at_once;
      }
    }
  }

  void drop_situations() {
    for (size_t e = 0; e < best_.experiments.size(); ++e) {
      for (size_t i = 0;
           e < best_.experiments.size() && i < best_.experiments[e].situations.size();) {
        auto fewer = best_.experiments;
        auto& situations = fewer[e].situations;
        situations.erase(situations.begin() + static_cast<ptrdiff_t>(i));
        if (!try_out(std::move(fewer))) ++i;
      }
    }
  }

  /// True if something could go.
  bool drop_pieces(size_t at_once) {
    bool changed = false;
    for (size_t e = 0; e < best_.experiments.size(); ++e) {
      for (size_t i = 0;
           e < best_.experiments.size() && i < best_.experiments[e].program.pieces.size();
           i += at_once) {
        auto smaller = best_.experiments;
        auto& pieces = smaller[e].program.pieces;
        bool any = false;
        for (size_t j = i; j < std::min(i + at_once, pieces.size()); ++j) {
          any = any || pieces[j].size != 0;
          pieces[j].size = 0;
        }
        if (any && try_out(std::move(smaller))) changed = true;
      }
    }
    return changed;
  }

 private:
  Reduced& best_;
  NativeProcessor* native_;
};

}  // namespace

Reduced reduce(std::span<const Experiment> experiments, NativeProcessor* native) {
  Reduced best;
  Reducer reducer(best, native);
  // Mostly the last needs none of the others.
  if (!reducer.try_out({experiments.back()}) &&
      !reducer.try_out({experiments.begin(), experiments.end()}))
    return best;
  reducer.drop_experiments();
  reducer.drop_situations();
  for (size_t at_once = 64; at_once > 1; at_once /= 4) reducer.drop_pieces(at_once);
  while (reducer.drop_pieces(1)) {
  }
  reducer.drop_situations();
  return best;
}

std::string describe(const Situation& situation) {
  static constexpr std::array<const char*, kPageCount> kPages = {"code",  "code2", "data",
                                                                 "data2", "lone",  "read-only"};
  const Registers& before = situation.before;
  std::string text =
      fmt::format("  window {:#x}, from piece {}{}{}{}, rflags {:#x} fs {:#x} gs {:#x}\n",
                  kWindows[situation.window], situation.entry,
                  situation.demand ? ", on demand" : "", situation.supervisor ? ", CPL 0" : "",
                  situation.smap ? ", SMAP" : "", before.rflags, before.fs_base, before.gs_base);
  for (size_t i = 0; i < kPageCount; ++i) {
    const Mapping& mapping = situation.mappings[i];
    text += fmt::format("  {}: {}{}{}{}{}", kPages[i], kPages[mapping.shows],
                        mapping.present ? "" : " absent", mapping.writable ? " w" : "",
                        mapping.executable ? " x" : "", mapping.user ? " u" : "");
  }
  text += '\n';
  for (size_t i = 0; i < 16; ++i)
    text += fmt::format("  r{:<2} {:#018x}{}", i, before.gpr[i], i % 4 == 3 ? "\n" : "");
  return text;
}

}  // namespace limen::conformance
