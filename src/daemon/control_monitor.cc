// What monitoring asks: health and metrics.
#include "base/version.h"
#include "daemon/control_api.h"
#include "daemon/pool_metrics.h"

namespace refault::daemon {

Health ControlApi::health() const {
    auto open = pool();
    HealthFacts facts;
    facts.has_pool = open.ok();
    facts.is_opening = is_being_opened(open);
    return judge(open ? health_facts(**open) : facts);
}

std::string ControlApi::metrics() const {
    using Type = MetricsText::Type;
    MetricsText out;
    out.family("refault_build_info", Type::Gauge, "The daemon's version, by its label; always 1.");
    out.sample(1, {{"version", base::kVersion}});
    const auto now = health();
    out.gauge("refault_ready", "1 while a pool is open and takes changes.", now.is_ready ? 1 : 0);
    out.gauge("refault_healthy", "1 while GET /v1/health answers 200.", now.is_ok() ? 1 : 0);
    out.counter("refault_events_total", "Events since the daemon was started.",
                static_cast<double>(events_.last_sequence()));
    out.family("refault_refused_total", Type::Counter,
               "Clients that were turned away or hung up on.");
    for (const auto& refused : refusals()->counts())
        out.sample(static_cast<double>(refused.count),
                   {{"channel", refused.channel}, {"reason", refused.reason}});
    auto open = pool();
    out.gauge("refault_pool_open", "1 while a pool is open.", open ? 1 : 0);
    if (open) write_pool_metrics(out, **open);
    write_process_metrics(out);
    return out.text();
}

}  // namespace refault::daemon
