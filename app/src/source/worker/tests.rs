#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::VecDeque;

use anyhow::bail;
use dreamglass_engine::Size;

use super::*;

/// What one opening does.
#[derive(Clone)]
enum Turn {
    Refused(&'static str),
    Hangs,
    Gives(u64, Then),
}

#[derive(Clone, Copy)]
enum Then {
    Ends,
    Fails(&'static str),
    Hangs,
}

struct Script {
    turns: VecDeque<Turn>,
    rate: Option<f64>,
}

struct Given {
    left: u64,
    then: Then,
    stop: Stop,
}

impl Feed for Script {
    fn open(&mut self, stop: &Stop) -> Result<Opened> {
        match self.turns.pop_front() {
            Some(Turn::Gives(left, then)) => Ok(Opened {
                stream: Box::new(Given { left, then, stop: stop.clone() }),
                text: "script".into(),
                rate: self.rate,
            }),
            Some(Turn::Refused(why)) => bail!(why),
            Some(Turn::Hangs) => {
                stop.sleep(Duration::from_secs(60));
                bail!("stopped")
            }
            None => bail!("the script is over"),
        }
    }
}

impl Stream for Given {
    fn next(&mut self) -> Result<Next> {
        if self.left > 0 {
            self.left -= 1;
            return Ok(match self.left {
                5 => Next::Lost("short".into()),
                _ => Next::Picture(Picture::new(Size::new(1, 1), vec![0; 4]).unwrap()),
            });
        }
        match self.then {
            Then::Ends => Ok(Next::End),
            Then::Fails(why) => bail!(why),
            Then::Hangs => {
                self.stop.sleep(Duration::from_secs(60));
                bail!("stopped")
            }
        }
    }
}

fn start(turns: &[Turn], rate: Option<f64>) -> Result<Worker> {
    let policy = Policy::Wait(3);
    let habits = Habits {
        policy,
        first_wait: Duration::from_millis(5),
        max_silence: Some(Duration::from_millis(150)),
        max_opening: Some(Duration::from_millis(300)),
    };
    Worker::start(Script { turns: turns.iter().cloned().collect(), rate }, habits)
}

/// Events until the end or the second trouble of silence.
fn story(mut worker: Worker, most: usize) -> Vec<String> {
    let mut told = Vec::new();
    while told.len() < most {
        match worker.next().unwrap() {
            Some(Event::Frame(frame)) => told.push(frame.index.to_string()),
            Some(Event::Trouble(why)) => told.push(why),
            Some(Event::End) => {
                told.push("end".into());
                break;
            }
            None => {}
        }
    }
    assert!(worker.describe() == "script");
    told
}

#[test]
fn it_comes_back_after_trouble() {
    let turns = [
        Turn::Gives(2, Then::Fails("unplugged")),
        Turn::Refused("not there"),
        Turn::Refused("not there"),
        Turn::Refused("busy"),
        Turn::Gives(1, Then::Fails("unplugged")),
        Turn::Gives(1, Then::Ends),
    ];
    let told = story(start(&turns, None).unwrap(), 99);
    assert_eq!(told, ["0", "1", "unplugged", "not there", "busy", "2", "unplugged", "3", "end"]);
}

#[test]
fn what_never_worked_is_an_error() {
    let error = start(&[Turn::Refused("no such camera"), Turn::Gives(1, Then::Ends)], None);
    assert_eq!(error.err().unwrap().to_string(), "no such camera");
}

#[test]
fn what_hangs_while_it_is_opened_is_given_up() {
    let error = start(&[Turn::Hangs], None).err().unwrap().to_string();
    assert_eq!(error, "no picture came in 0.3 s");
}

#[test]
fn lost_frames_are_counted() {
    let told = story(start(&[Turn::Gives(8, Then::Ends)], None).unwrap(), 99);
    assert_eq!(told, ["0", "1", "3", "4", "5", "6", "7", "end"]);
}

#[test]
fn an_end_stays() {
    let mut worker = start(&[Turn::Gives(0, Then::Ends)], None).unwrap();
    let mut ends = 0;
    for _ in 0..3 {
        ends += usize::from(matches!(worker.next().unwrap(), Some(Event::End)));
    }
    assert_eq!(ends, 3);
}

#[test]
fn silence_is_told_once_and_dropping_does_not_hang() {
    let started = Instant::now();
    let told = story(start(&[Turn::Gives(1, Then::Hangs)], None).unwrap(), 2);
    assert_eq!(told, ["0", "script: nothing came for 0.15 s, waiting"]);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_rate_is_kept() {
    let started = Instant::now();
    let told = story(start(&[Turn::Gives(5, Then::Ends)], Some(20.0)).unwrap(), 99);
    assert_eq!(told, ["0", "1", "2", "3", "4", "end"]);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(195), "{took:?}");
}

#[test]
fn who_is_late_gets_the_newest_that_is_due() {
    let mut worker = start(&[Turn::Gives(4, Then::Hangs)], Some(50.0)).unwrap();
    let mut next = || match worker.next().unwrap() {
        Some(Event::Frame(frame)) => frame.index,
        other => panic!("{other:?}"),
    };
    assert_eq!(next(), 0);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(next(), 3);
}
