// Requests as libwebsockets has read them, and answers to them.
#pragma once

#include <optional>
#include <string_view>

#include "web/access.h"
#include "web/lws_entries.h"

namespace limen::web {

/// Nothing for what is not GET.
std::optional<Request> request_of(lws* wsi);
/// What an answer without a text of its own says.
std::string_view reason_of(unsigned status);
/// Sends the header of `client`'s response. False: the client is to be dropped.
bool send_header(ClientEntry& client);
/// The next part of the content; true: that was all of it.
Result<bool> send_content(ClientEntry& client);

}  // namespace limen::web
