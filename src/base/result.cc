#include "base/result.h"

#include <cstring>

namespace limen {

std::unexpected<Error> fail_errno(int error_number, std::string what) {
  return std::unexpected(
      Error{fmt::format("{}: {}", std::move(what), ::strerror(error_number)), error_number});
}

}  // namespace limen
