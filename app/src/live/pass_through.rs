//! Frames that go through unchanged: what is around the engine can be tried out and measured without it.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::Result;
use dreamglass_engine::Planes;
use dreamglass_engine::live::Status;
use dreamglass_engine::stream::Counters;

use super::Phase;
use super::worker::{Event, Worker};
use crate::source::Captured;

/// Longest time between looks at the end when nothing happens.
const IDLE: Duration = Duration::from_millis(100);

impl Worker {
    /// Runs to the end without a model.
    pub(super) fn pass_through(&mut self) -> Result<()> {
        self.change(|view| view.phase = Phase::Waiting);
        while !self.is_over {
            match self.inbox.recv_timeout(IDLE) {
                Ok(Event::Frame) => self.pass()?,
                Ok(Event::Trouble(reason)) => self.change(|view| view.complain(reason)),
                Ok(Event::SourceEnd(error)) => {
                    self.pass()?;
                    self.source_over(error);
                    self.is_over |= self.start.ends_with_source;
                }
                Ok(Event::Set(params)) => self.change(|view| view.params = *params),
                Ok(Event::Change(changes, answer)) => {
                    let result = self.changed(&changes);
                    if let Ok(params) = &result {
                        self.change(|view| view.params = params.clone());
                    }
                    let _ = answer.send(result);
                }
                Ok(Event::SetSource(source)) => self.set_source(source),
                Ok(Event::AddSink(sink)) => {
                    if let Err(error) = self.add_sinks(vec![sink]) {
                        self.change(|view| view.complain(format!("{error:#}")));
                    }
                }
                Ok(Event::FinishSinks) => self.finish_sinks(),
                Ok(Event::Done | Event::Built(..) | Event::Fused(_) | Event::Text(_))
                | Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Quit) | Err(RecvTimeoutError::Disconnected) => self.is_over = true,
            }
        }
        Ok(())
    }
    fn pass(&mut self) -> Result<()> {
        let Some(Captured { captured_at, picture, .. }) = self.take() else { return Ok(()) };
        let planes = Arc::new(Planes::from_picture(&picture)?);
        self.frames += 1;
        self.hand_on(Some(&Arc::new(picture)), Some(planes), captured_at);
        let (taken_at, done_at) = (captured_at.saturating_duration_since(self.began), self.began.elapsed());
        let (received, lost) = (self.frames, self.lost());
        self.change(|view| {
            view.statistics.add(taken_at, done_at);
            view.statistics.lost = lost;
            let counters = Counters { received, processed: received, shown: received, ..Counters::default() };
            let status = view.statistics.status.get_or_insert(Status {
                counters,
                is_preparing: false,
                layout: None,
                lag: 0,
                job_length: None,
                is_idle: true,
            });
            status.counters = counters;
            view.phase = if view.phase == Phase::Ended { Phase::Ended } else { Phase::Live };
        });
        self.is_over |= self.start.limit.is_some_and(|limit| received >= limit);
        Ok(())
    }
}
