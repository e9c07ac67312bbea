// What follows an error of the host's: QEMU's werror= and rerror=.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "block/filters/filter.h"

namespace limen::block {

enum class ErrorAction : uint8_t {
  kReport,  ///< The guest hears of it.
  kIgnore,  ///< As if it had been done.
  kStop,    ///< The machine stands still; going on tries the request again.
  kEnospc,  ///< kStop when there is no room (ENOSPC, EDQUOT), else kReport.
};
/// "report", "ignore", "stop", "enospc".
std::optional<ErrorAction> parse_error_action(std::string_view text);
[[nodiscard]] std::string_view error_action_name(ErrorAction action);

/// What is told of an error, as in QMP's BLOCK_IO_ERROR.
struct IoError {
  bool write = false;
  bool no_space = false;
  ErrorAction action = ErrorAction::kReport;  ///< What was done: never kEnospc.
  int error = 0;                              ///< The errno.
};

class ErrorPolicy final : public Filter {
 public:
  /// `failed` is called for every error, on any thread; for kStop it sees to it that the machine
  /// stops, and retry() follows when it goes on.
  ErrorPolicy(std::unique_ptr<BlockDevice> below, ErrorAction on_read, ErrorAction on_write,
              std::function<void(const IoError&)> failed);

  /// For a device that says otherwise than the drive. Before the first request.
  void set_actions(ErrorAction on_read, ErrorAction on_write) {
    on_read_ = on_read;
    on_write_ = on_write;
  }
  [[nodiscard]] ErrorAction on_read() const { return on_read_; }
  [[nodiscard]] ErrorAction on_write() const { return on_write_; }

  void submit(Request request) override;
  /// Waits for all but what is held, which would need a machine that runs.
  Result<> drain() override;
  void give_up_held(bool on) override;
  /// Makes the requests that failed and were held again, in their order. Thread-safe.
  void retry();
  [[nodiscard]] size_t held();
  /// The first error of those held; 0: none is.
  [[nodiscard]] int held_error();

 private:
  void ended(Request request, int error);

  ErrorAction on_read_;
  ErrorAction on_write_;
  const std::function<void(const IoError&)> failed_;
  std::mutex mutex_;
  std::vector<std::pair<Request, int>> held_;  // guarded by mutex_: requests and their errors
  unsigned giving_up_ = 0;                     // guarded by mutex_
};

}  // namespace limen::block
