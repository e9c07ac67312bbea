// The disk that cloud-init's NoCloud data source reads: an ISO 9660 image with the label "cidata"
// that gives a guest its users, keys and name at first boot (cloud-init's documentation,
// "NoCloud").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace limen::cloud {

/// The files of the seed, each as its content.
struct NoCloudSeed {
  std::string user_data = {};
  std::string meta_data = {};  ///< Empty: made by default_meta_data().
  std::optional<std::string> network_config = {};
  std::optional<std::string> vendor_data = {};
  std::string host_name = {};  ///< For default_meta_data(); empty: the guest keeps its own.
};

/// A file of at most 16 MiB. An error names the path.
Result<std::string> read_seed_file(const std::string& path);

/// Refuses what cloud-init would pass over in silence: user data or vendor data without one of the
/// first lines that say what it is, meta data without an instance-id, a host name that is none
/// (RFC 1123 §2.1).
Result<> check(const NoCloudSeed& seed);

/// "instance-id" and, if there is a host name, "local-hostname". The id follows from what the seed
/// says: cloud-init does its work anew when the seed changes, and not otherwise.
[[nodiscard]] std::string default_meta_data(const NoCloudSeed& seed);

/// The checked seed as an ISO 9660 image with Rock Ridge and Joliet names.
Result<std::vector<uint8_t>> make_image(const NoCloudSeed& seed);

}  // namespace limen::cloud
