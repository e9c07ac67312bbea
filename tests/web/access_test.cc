#include "web/access.h"

#include <gtest/gtest.h>

namespace limen::web {
namespace {

const std::string kToken = "0123456789abcdef";

Request asked(std::string token = {}, std::string cookie = {}) {
  return {.path = "/",
          .token = std::move(token),
          .host = "127.0.0.1:5780",
          .origin = {},
          .cookie = std::move(cookie)};
}

class AccessTest : public testing::Test {
 protected:
  AccessTest() { access_.set_port(5780); }
  /// The cookie as a browser sends it back.
  std::string cookie() {
    const auto text = access_.cookie();
    return text.substr(0, text.find(';'));
  }
  Access access_{"127.0.0.1", kToken};
};

TEST_F(AccessTest, NeedsTheTokenOrTheCookie) {
  EXPECT_EQ(access_.check(asked()), Verdict::kUnauthorized);
  EXPECT_EQ(access_.check(asked(kToken)), Verdict::kAllowed);
  EXPECT_EQ(access_.check(asked("0123456789abcdeF")), Verdict::kUnauthorized);
  EXPECT_EQ(access_.check(asked(kToken + "0")), Verdict::kUnauthorized);
  EXPECT_EQ(access_.check(asked(kToken.substr(1))), Verdict::kUnauthorized);
  EXPECT_EQ(access_.check(asked({}, cookie())), Verdict::kAllowed);
  EXPECT_EQ(access_.check(asked({}, "a=b; " + cookie() + "; c=d")), Verdict::kAllowed);
  EXPECT_EQ(access_.check(asked({}, "x" + cookie())), Verdict::kUnauthorized);
  EXPECT_EQ(access_.check(asked({}, cookie() + "0")), Verdict::kUnauthorized);
  EXPECT_EQ(access_.check(asked({}, "limen_5780=")), Verdict::kUnauthorized);
  EXPECT_EQ(access_.check(asked({}, "limen_5780=" + kToken)), Verdict::kUnauthorized);
}

TEST_F(AccessTest, TheCookieIsForThisMachineAlone) {
  Access other("127.0.0.1", kToken);
  other.set_port(5781);
  EXPECT_EQ(other.check(asked({}, cookie())), Verdict::kUnauthorized);
  EXPECT_NE(access_.cookie().find("; HttpOnly; SameSite=Strict"), std::string::npos);
  EXPECT_TRUE(access_.shows_token(asked(kToken)));
  EXPECT_FALSE(access_.shows_token(asked({}, cookie())));
}

TEST_F(AccessTest, ANameOfAnotherSiteIsTurnedAway) {
  for (const char* host : {"", "evil.example", "evil.example:5780", "localhost.evil.example",
                           "127.0.0.1.evil.example:5780", "[::1", "127.1", ":5780"}) {
    auto request = asked(kToken);
    request.host = host;
    EXPECT_EQ(access_.check(request), Verdict::kForbidden) << host;
  }
  // Also through a tunnel, whose port is another.
  for (const char* host : {"127.0.0.1:5780", "localhost:8080", "LocalHost", "[::1]:5780", "[::1]",
                           "192.168.1.7:5780"}) {
    auto request = asked(kToken);
    request.host = host;
    EXPECT_EQ(access_.check(request), Verdict::kAllowed) << host;
  }
  Access named("vm.example", kToken);
  auto request = asked(kToken);
  request.host = "VM.example:5780";
  EXPECT_EQ(named.check(request), Verdict::kAllowed);
}

TEST_F(AccessTest, APageOfAnotherSiteIsTurnedAway) {
  for (const char* origin : {"null", "http://evil.example", "http://127.0.0.1:5781",
                             "http://127.0.0.1", "ws://127.0.0.1:5780", "http://127.0.0.1:5780/"}) {
    auto request = asked(kToken, cookie());
    request.origin = origin;
    EXPECT_EQ(access_.check(request), Verdict::kForbidden) << origin;
  }
  for (const char* origin : {"http://127.0.0.1:5780", "https://127.0.0.1:5780"}) {
    auto request = asked(kToken);
    request.origin = origin;
    EXPECT_EQ(access_.check(request), Verdict::kAllowed) << origin;
  }
}

TEST(Access, WithoutATokenTheOtherSitesAreStillTurnedAway) {
  Access access("127.0.0.1", std::nullopt);
  EXPECT_EQ(access.check(asked()), Verdict::kAllowed);
  auto request = asked();
  request.origin = "http://evil.example";
  EXPECT_EQ(access.check(request), Verdict::kForbidden);
  request = asked();
  request.host = "evil.example";
  EXPECT_EQ(access.check(request), Verdict::kForbidden);
}

TEST(Access, TokensAreLongAndDiffer) {
  EXPECT_EQ(Access::random_token().size(), 64u);
  EXPECT_NE(Access::random_token(), Access::random_token());
}

TEST(Access, NothingIsTheSameAsNoSecret) {
  EXPECT_FALSE(same_secret("", ""));
  EXPECT_FALSE(same_secret("", "a"));
  EXPECT_TRUE(same_secret("ab", "ab"));
  // A repeated secret is not the secret.
  EXPECT_FALSE(same_secret("abab", "ab"));
}

}  // namespace
}  // namespace limen::web
