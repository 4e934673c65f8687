"""From journals into tree, index, outbox and jobs, without a process."""
