// -display web: a machine's console for browsers.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "machine/machine.h"

namespace limen::web {

class Server {
 public:
  /// Listens from now on, and prints the address on standard error. The machine outlives the
  /// server; both are made and destroyed on the machine's loop, or when it does not run. What a
  /// client does or sends does not hold up the machine.
  static Result<std::unique_ptr<Server>> create(machine::Machine& machine,
                                                const machine::WebDescription& description);
  /// Clients are told that the machine is over.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// "http://127.0.0.1:5780/?token=..."
  [[nodiscard]] const std::string& url() const;

 private:
  class Hub;
  explicit Server(std::unique_ptr<Hub> hub);
  std::unique_ptr<Hub> hub_;
};

}  // namespace limen::web
